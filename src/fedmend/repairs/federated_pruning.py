"""Federated pruning (federated-pruning paper, 4), and fine-tuning against triggers that the clients find (ours).

The stages of :meth:`FederatedPruning.__call__`: ask, tally, prune, fine-tune and choose, adjust. In the benchmark the
vote and the pruning leave the backdoor as it is (mean ASR on MNIST 99.8 % before and after); what removes it are the
clients' triggers, self-distillation and the choice of groups (0.4 %).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from fedmend.checked_settings import Natural, Positive, settings
from fedmend.detection import Finding
from fedmend.pruning import MajorityVote, RankingVote, locate
from fedmend.repairs.accuracy_sources import AccuracySource, ValidationSet
from fedmend.repairs.asking import (
    Asking,
    ClientReports,
    ask_for_bits,
    ask_for_ranks,
    ask_for_triggers,
    refusals,
)
from fedmend.repairs.base import Candidate, Context, require_participants
from fedmend.repairs.distillation import Distillation
from fedmend.repairs.fine_tuning import Rounds, distillation_rounds, plain_rounds
from fedmend.repairs.pruning_stages import (
    PAPER_PRUNING,
    Pruning,
    adjust_extreme_weights,
    clean_accuracy,
    details_of,
    prune_channels,
    tally,
)
from fedmend.repairs.trigger_reports import ask_for_successes, reported_checks

Rate = Annotated[float, Field(gt=0, lt=1, strict=True)]


@settings
class FederatedPruning:
    """How to vote, how much to prune, and how the clients fine-tune afterwards, which is what removes the backdoor.

    Attributes:
        vote: "ranking" (4.1) or "majority" (4.2).
        rates: the majority vote's pruning rates, fractions in (0, 1), all in one ballot.
        pruning: from votes to a pruned model. By default extreme weights are not adjusted: after this fine-tuning, on
            the development models, adjusting cost accuracy and hardly weakened the attack.
        fine_tuning_rounds: rounds of the federation after pruning, attackers included (4.4).
        distillation: honest clients self-distil against the triggers that clients found, with group selection (see
            ``distillation`` and ``group_selection``). None: plain rounds on labels, as in the paper.
        timeout: seconds to wait for a client's reply, or its training in a round; then it is interrupted and left out.

    Raises:
        ConfigError: a setting is out of range.
    """

    vote: Literal["ranking", "majority"] = "ranking"
    rates: Annotated[tuple[Rate, ...], Field(min_length=1)] = (0.3, 0.5, 0.7)
    pruning: Pruning = Pruning(delta=None)
    fine_tuning_rounds: Natural = 6
    distillation: Distillation | None = Distillation()
    timeout: Positive = 600.0

    def __call__(self, suspect: nn.Module, findings: Sequence[Finding], context: Context) -> Candidate:
        """Let the clients vote, prune, and let the clients fine-tune.

        Args:
            suspect: left as found.
            findings: not used: the clients search for triggers themselves.
            context: with participants. With images, accuracies are measured on them; without, clients report them.

        Raises:
            ConfigError: the context has no participants. DataError: there is no valid reply, or no update is finite.
            ModelError: the model has no convolution, or fine-tuning diverged.
        """
        participants, validation = require_participants(context), context.labelled_images
        asking = Asking(participants.clients, self.timeout, context.progress)
        accuracy: AccuracySource = (
            ClientReports(asking, participants.image_shape)
            if validation is None
            else ValidationSet(*validation)
        )
        layer = locate(suspect, accuracy.probe)

        # Ask
        votes: RankingVote | MajorityVote
        if self.vote == "ranking":
            votes = ask_for_ranks(suspect, layer, asking)
        else:
            votes = ask_for_bits(suspect, layer, self.rates, asking)
        pool = None
        if self.fine_tuning_rounds and self.distillation is not None:
            pool = ask_for_triggers(suspect, participants, asking)
            if validation is not None:
                pool.check(suspect, *validation)

        # Tally
        tallied = tally(suspect, votes, accuracy, self.pruning, layer.name)

        # Prune
        work = prune_channels(suspect, tallied)
        if not self.fine_tuning_rounds or self.pruning.adjust_first:
            adjust_extreme_weights(work, "adjusted", tallied, accuracy, self.pruning)

        # Fine-tune, and choose the round
        if self.fine_tuning_rounds:
            rounds = Rounds(self.fine_tuning_rounds, self.timeout)
            if pool is not None and self.distillation is not None:
                work.model = distillation_rounds(work, suspect, pool, context, self.distillation, rounds)
            else:
                work.model = plain_rounds(work, context, rounds)
            work.reached("fine-tuned", clean_accuracy(work.model, tallied, accuracy))
            adjust_extreme_weights(work, "adjusted again", tallied, accuracy, self.pruning)

        # Check, if nobody else can
        checks = clean = None
        if pool is not None and validation is None:
            checks = ask_for_successes(work.model, pool, asking)
            if context.reference is not None:
                clean = ask_for_successes(context.reference, pool, asking)

        warnings = [*accuracy.warnings, *work.refused]
        if pool is not None:
            warnings = [*warnings, *refusals(pool, len(asking.clients), "clients' triggers")]
        for reports in (checks, clean):
            if reports is not None:
                warnings += refusals(reports, len(asking.clients), "reports of the triggers' success")
        if validation is not None:
            warnings = [*warnings, *_doubts(validation[1], work.stages[0].accuracy, self.pruning.max_drop)]
        return Candidate(
            work.model,
            f"{tallied.count} of {votes.channels} channels were pruned",
            details_of(tallied, votes, work, accuracy, () if pool is None else pool.listed()),
            targets=() if pool is None else pool.targets(),
            reported=(work.stages[0].accuracy, work.stages[-1].accuracy),
            reported_checks=()
            if pool is None or checks is None
            else reported_checks(
                [trigger for _, trigger in pool.found],
                checks.medians(),
                None if clean is None else clean.medians(),
            ),
            stages=work.models,
            warnings=tuple(dict.fromkeys(warnings)),
        )


PAPER_RECIPE = FederatedPruning(rates=(0.5,), pruning=PAPER_PRUNING, distillation=None)
"""The paper's recipe: mean ranks, pruning until a step costs more than a point, plain fine-tuning, delta 3 with mean
and standard deviation over all weights of the layer, pruned ones included.

For the majority vote, the paper recommends rates of 0.3 to 0.7.
"""


def _doubts(labels: Tensor, accuracy: float, max_drop: float) -> list[str]:
    """Reasons not to trust the accuracies on these validation images."""
    doubts = []
    if len(labels) * max_drop < 2:
        doubts.append(
            f"with {len(labels)} validation images, two errors exceed the {100 * max_drop:g} points that pruning may "
            "cost; use more images"
        )
    guess = float(labels.bincount().max()) / len(labels)
    if accuracy <= guess:
        doubts.append(
            f"the suspect classifies {accuracy:.1%} of the validation images correctly, no more than always predicting "
            f"the most frequent class ({guess:.1%}); check that they match its training data"
        )
    return doubts
