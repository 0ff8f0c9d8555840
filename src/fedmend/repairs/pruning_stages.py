"""From votes to a pruned model, stage by stage (federated-pruning paper, 4): tally, prune, adjust extreme weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from fedmend.checked_settings import Flag, Fraction, Positive, settings
from fedmend.errors import ConfigError
from fedmend.federation import Refused
from fedmend.inference import device_of
from fedmend.pruning import (
    ConvLayer,
    MajorityVote,
    PruningMask,
    RankingVote,
    Rule,
    StopRule,
    adjusted,
    channel_mask,
    choose_delta,
    how_far,
    join_masks,
    locate,
    points_along,
    pruning_sequence,
    set_to_zero,
)
from fedmend.repairs.accuracy_sources import AccuracySource, ValidationSet
from fedmend.repairs.repair_report import PruningDetails, Stage, StageName, VotedTrigger
from fedmend.version_info import versions

MOST_EXTREME = 1000


@settings
class Pruning:
    """How to go from votes to a pruned model (federated-pruning paper, 4).

    Attributes:
        rule: how a ranking vote is aggregated; the paper's is "mean".
        stop: what counts as a drop of the accuracy; the paper's is "step", between neighbouring testing points.
        max_drop: the largest drop while pruning, a fraction; the paper's is 1 point.
        delta: extreme weights lie more than this many standard deviations from the mean; the paper's is 3.
            "validated": the lowest that the accuracy allows. None: no weights are adjusted.
        live_only: compute mean and standard deviation over non-zero weights, so that pruned channels don't narrow the
            range: ours; the paper's is "all the weights".
        adjust_first: adjust extreme weights also before fine-tuning, which holds them at zero.

    Raises:
        ConfigError: a setting is out of range.
    """

    rule: Rule = "median"
    stop: StopRule = "total"
    max_drop: Fraction = 0.01
    delta: Positive | Literal["validated"] | None = 3.0
    live_only: Flag = True
    adjust_first: Flag = False


PAPER_PRUNING = Pruning(rule="mean", stop="step", delta=3.0, live_only=False)
"""The paper's own choices: mean ranks (4.1), a drop between testing points (5.2), delta 3 over all weights (5.3)."""


@dataclass(frozen=True, eq=False)
class Tally:
    """A vote's result: the pruning sequence, the accuracy along it, and how many channels to prune.

    Attributes:
        layer: the convolution that was voted on.
        sequence: all its channels, the first to prune first.
        points: the testing points. accuracies: float64 (points,).
        count: how many channels to prune.
    """

    layer: ConvLayer
    sequence: tuple[int, ...]
    points: tuple[int, ...]
    accuracies: Tensor
    count: int

    @property
    def pruned(self) -> tuple[int, ...]:
        """The channels to prune."""
        return self.sequence[: self.count]


@dataclass(eq=False)
class Work:
    """A model on its way through the stages.

    Attributes:
        model: after the last stage.
        mask: its pruning mask.
        stages: the record of each stage. models: the model after each stage, by the stage's name.
        extreme: indices and values of the weights that the last adjustment set to zero, the largest first.
        refused: a sentence for each update in a round of fine-tuning that did not count.
    """

    model: nn.Module
    mask: PruningMask = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)
    models: dict[str, nn.Module] = field(default_factory=dict)
    extreme: list[tuple[tuple[int, ...], float]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def note(self, round_number: int, refused: Sequence[Refused]) -> None:
        """Record the updates of a round that did not count."""
        self.refused += [f"refused in round {round_number}: the update of {each}" for each in refused]

    def reached(self, name: StageName, accuracy: float, zeroed: int = 0, delta: float | None = None) -> None:
        """Record a finished stage."""
        self.stages.append(Stage(name, accuracy, zeroed, delta))
        self.models[name] = self.model


def tally(
    model: nn.Module,
    votes: RankingVote | MajorityVote,
    accuracy: AccuracySource,
    how: Pruning,
    layer: str | None = None,
) -> Tally:
    """Turn votes into a pruning sequence, and walk along it until the accuracy drops (4.1, 4.2).

    Of a majority vote's rates, the one that prunes most is used.

    Raises:
        ConfigError: the vote has another number of channels. DataError: there is no valid ballot.
        ModelError: there is no such convolution.
    """
    found = locate(model, accuracy.probe, layer)
    width = found.convolution.out_channels
    if votes.channels != width:
        raise ConfigError(f"the vote has {votes.channels} channels, but {found.name} has {width}")
    points = points_along(width)
    if isinstance(votes, RankingVote):
        scores = [votes.scores(how.rule)]
    else:
        scores = [votes.scores(rate) for rate in range(len(votes.tally))]
    tallies = []
    for each in scores:
        sequence = pruning_sequence(each).tolist()
        accuracies = accuracy.along(model, found.name, sequence, points)
        count = points[how_far(accuracies, how.max_drop, how.stop)]
        tallies.append(Tally(found, tuple(sequence), tuple(points), accuracies, count))
    return max(tallies, key=lambda each: each.count)


def prune_channels(model: nn.Module, tallied: Tally) -> Work:
    """A copy of the model with the tally's channels pruned."""
    mask = channel_mask(tallied.layer, tallied.pruned)
    work = Work(model)
    work.reached("suspect", float(tallied.accuracies[0]))
    work.model, work.mask = deepcopy(model), mask
    set_to_zero(work.model, mask)
    at = tallied.points.index(tallied.count)
    work.reached("pruned", float(tallied.accuracies[at]), int(mask[f"{tallied.layer.name}.weight"].sum()))
    return work


def adjust_extreme_weights(
    work: Work,
    name: Literal["adjusted", "adjusted again"],
    tallied: Tally,
    accuracy: AccuracySource,
    how: Pruning,
) -> None:
    """Set the layer's extreme weights to zero (4.3), unless ``how.delta`` is None."""
    if how.delta is None:
        return
    layer = tallied.layer.name

    def accuracy_of(model: nn.Module) -> float:
        return clean_accuracy(model, tallied, accuracy)

    delta = how.delta
    if isinstance(delta, str):
        delta = choose_delta(work.model, layer, accuracy_of, live_only=how.live_only)
    weight = work.model.get_parameter(f"{layer}.weight").detach()
    work.model, extreme = adjusted(work.model, layer, delta, live_only=how.live_only)
    work.mask = join_masks(work.mask, extreme)
    places = ((weight != 0) & extreme[f"{layer}.weight"]).nonzero().tolist()
    values = [(tuple(place), float(weight[tuple(place)])) for place in places]
    work.extreme = sorted(values, key=lambda each: -abs(each[1]))
    work.reached(name, accuracy_of(work.model), len(places), delta if math.isfinite(delta) else None)


def clean_accuracy(model: nn.Module, tallied: Tally, accuracy: AccuracySource) -> float:
    """The accuracy of a model of the same architecture, without further pruning."""
    return float(accuracy.along(model, tallied.layer.name, tallied.sequence, [0])[0])


def details_of(
    tallied: Tally,
    votes: RankingVote | MajorityVote,
    work: Work,
    accuracy: AccuracySource,
    triggers: tuple[VotedTrigger, ...] = (),
) -> PruningDetails:
    """The details for the report."""
    return PruningDetails(
        layer=tallied.layer.name,
        channels=tallied.layer.convolution.out_channels,
        vote="ranking" if isinstance(votes, RankingVote) else "majority",
        ballots=votes.counted,
        refused=dict(votes.refused),
        missing=votes.missing,
        sequence=tallied.sequence,
        points=tallied.points,
        accuracies=tuple(tallied.accuracies.tolist()),
        pruned=tallied.pruned,
        stages=tuple(work.stages),
        extreme=tuple(place for place, _ in work.extreme[:MOST_EXTREME]),
        values=tuple(value for _, value in work.extreme[:MOST_EXTREME]),
        triggers=triggers,
        num_validation=len(accuracy.images) if isinstance(accuracy, ValidationSet) else 0,
        device=str(device_of(work.model)),
        versions=versions(),
    )


def prune(
    model: nn.Module,
    votes: RankingVote | MajorityVote,
    accuracy: AccuracySource,
    how: Pruning = Pruning(),  # noqa: B008 - frozen
    layer: str | None = None,
) -> tuple[nn.Module, PruningMask, PruningDetails]:
    """Prune the channels that the clients of your own federation voted dormant, and adjust extreme weights.

    Fine-tuning follows (4.4): train within ``fedmend.pruning.held(model, mask)``.

    Args:
        model: the suspect; left as found.
        votes: the clients' ballots.
        accuracy: a :class:`ValidationSet`, or your own object that asks the clients.
        how: the settings.
        layer: the convolution that was voted on; by default the one that runs last.

    Returns:
        The pruned model, its pruning mask, and the details.

    Raises:
        ConfigError: the vote has another number of channels. DataError: there is no valid ballot.
        ModelError: there is no such convolution.
    """
    tallied = tally(model, votes, accuracy, how, layer)
    work = prune_channels(model, tallied)
    adjust_extreme_weights(work, "adjusted", tallied, accuracy, how)
    return work.model, work.mask, details_of(tallied, votes, work, accuracy)
