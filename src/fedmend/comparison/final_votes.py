"""The defence that repairs once: after the last round, the clients vote on what to prune."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch

from fedmend.checked_settings import Count, Natural, settings
from fedmend.data import ImageSet, stratified
from fedmend.detection import Case
from fedmend.errors import DataError
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.federation import RunFolder, load_attacks, load_federation
from fedmend.repairs import FederatedPruning, ValidationSet, participants_of, repair_by_votes, round_model
from fedmend.repairs.repair_report import Outcome
from fedmend.seeds import derive_seed, generator


@settings
class Votes:
    """How the clients vote.

    Attributes:
        vote, fine_tuning_rounds: see :class:`fedmend.repairs.FederatedPruning`.
        validation_images: how many of the server's own images choose how far to prune.
        held_out_images: how many others judge the result.
    """

    vote: Literal["ranking", "majority"] = "ranking"
    fine_tuning_rounds: Natural = 6
    validation_images: Count = 1000
    held_out_images: Count = 500

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON and TOML have them."""
        return asdict(self)


@dataclass(frozen=True)
class Voted:
    """What came of a vote.

    Attributes:
        outcome: of the repair; a model is released if it is "repaired" or "unverified".
        accuracy: of the released model on the test images, in [0, 1]; None if none was released.
        asr: the attack success rate in it, for each attack.
        seconds: how long it took.
    """

    outcome: Outcome
    accuracy: float | None
    asr: tuple[float, ...]
    seconds: float


def vote(
    run: RunFolder,
    votes: Votes,
    train: ImageSet,
    test: ImageSet,
    own: ImageSet,
    device: torch.device | str = "cpu",
) -> Voted:
    """Repair the last model of a run by its clients' votes, and measure what is released.

    Args:
        run: it is complete.
        votes: how.
        train: the clients' images.
        test: what the released model is measured on.
        own: the server's.
        device: where to compute.

    Raises:
        DataError: the server has too few images.
    """
    seed = derive_seed(run.config().seed, "votes")
    if votes.validation_images + votes.held_out_images > len(own):
        raise DataError(
            f"[votes] validation_images {votes.validation_images} and held_out_images {votes.held_out_images} are more "
            f"than the server's {len(own)} images; ask for fewer"
        )
    chosen = stratified(own, votes.validation_images, generator(seed, "validation images"))
    others = torch.ones(len(own), dtype=torch.bool)
    others[chosen] = False
    rest = own.subset(others.nonzero().flatten())
    held_out = rest.subset(stratified(rest, votes.held_out_images, generator(seed, "held-out images")))
    validation = own.subset(chosen)
    participants = replace(
        participants_of(run, load_federation(run, train, device)),
        seed=seed,
        validation=ValidationSet(validation.images, validation.labels),
    )
    case = Case(round_model(run, train, device=device), images=held_out.images, labels=held_out.labels)
    method = FederatedPruning(vote=votes.vote, fine_tuning_rounds=votes.fine_tuning_rounds)
    model, report, _ = repair_by_votes(case, participants, method)
    if model is None:
        return Voted(report.outcome, None, (), report.seconds)
    return Voted(
        report.outcome,
        accuracy(model, test.images, test.labels),
        tuple(
            attack_success_rate(model, attack.trigger, attack.goal, test.images, test.labels)
            for attack in load_attacks(run, test)
        ),
        report.seconds,
    )
