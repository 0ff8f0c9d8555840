"""The contents of a page. Any part but the title may be missing; its section is then omitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from torch import Tensor

from fedmend.checked_settings import Fraction
from fedmend.detection.scan_report import ScanReport
from fedmend.errors import DataError
from fedmend.guard.decisions import Line
from fedmend.repairs.repair_report import PruningDetails, RepairReport
from fedmend.triggers import Patch


@dataclass(frozen=True)
class Round:
    """The global model after one round; ``accuracy`` is a fraction of the clean test images."""

    round: Annotated[int, Field(ge=0)]
    accuracy: Fraction


@dataclass(frozen=True)
class AttackedRound:
    """A round as only the attacker knows it: the attackers, and an attack success rate (ASR) for each attack.

    ``asr`` is of the global model after the round, ``candidate_asr`` of the model that a guard decided about.
    """

    round: Annotated[int, Field(ge=0)]
    attackers: tuple[int, ...] = ()
    asr: tuple[Fraction | None, ...] = ()
    candidate_asr: tuple[Fraction | None, ...] = ()


@dataclass(frozen=True, eq=False)
class PlantedAttack:
    """One attack of a simulation, unknown to the defender.

    Attributes:
        settings: its table, among them ``trigger``, ``goal``, ``first_round`` and ``attackers``.
        patch: the planted trigger, if it is a patch.
        example: for another kind of trigger, a clean image (C, H, W) and the same image stamped.
    """

    settings: Mapping[str, Any]
    patch: Patch | None = None
    example: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class AttackEvaluation:
    """Measured with the attackers' own triggers, which only a simulation knows. Fractions are in [0, 1].

    Attributes:
        num_images: number of test images.
        accuracy_before, asr_before: the suspect's clean accuracy, and its ASR for each attack.
        accuracy_after, asr_after: the same of the repaired model, if there is one.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    num_images: Annotated[int, Field(ge=1)]
    accuracy_before: Fraction
    asr_before: tuple[Fraction, ...]
    accuracy_after: Fraction | None = None
    asr_after: tuple[Fraction, ...] | None = None


@dataclass(frozen=True)
class PruneEvaluation:
    """Measured on test images with the attackers' own triggers, which only a simulation knows.

    Fractions are in [0, 1].

    Attributes:
        asr_along: at each testing point of the pruning, the attack success rate (ASR) of each attack.
        accuracy: of the model after each stage, in order. asr: the ASR of each attack then.
        num_images: number of test images.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    asr_along: tuple[tuple[Fraction, ...], ...]
    accuracy: tuple[Fraction, ...]
    asr: tuple[tuple[Fraction, ...], ...]
    num_images: Annotated[int, Field(ge=1)]

    @property
    def attacks(self) -> int:
        """How many were measured."""
        return len(self.asr[0]) if self.asr else 0


def check_pruning(details: PruningDetails) -> None:
    """Check that channels, testing points, weights and found triggers of a pruning are consistent.

    Raises:
        DataError: they aren't.
    """
    points, along = details.points, len(details.accuracies)
    if len(details.sequence) != details.channels or sorted(details.sequence) != list(range(details.channels)):
        raise DataError(f"expected a sequence that names each of the {details.channels} channels once")
    if len(points) != along:
        raise DataError(f"expected an accuracy for each testing point; got {along} for {len(points)}")
    if not all(low < high for low, high in pairwise((-1, *points, details.channels))):
        raise DataError(f"expected testing points that rise from 0 to below {details.channels} channels")
    if details.pruned != details.sequence[: len(details.pruned)]:
        raise DataError("expected the pruned channels to be the first of the sequence")
    if not details.stages:
        raise DataError("expected at least one stage; got none")
    if len(details.extreme) != len(details.values) or any(len(place) != 4 for place in details.extreme):
        raise DataError("expected a place of four numbers and a value for each extreme weight")
    for trigger in details.triggers:
        if not 0 <= trigger.rate <= 1 or any(min(pixel) < 0 for pixel in trigger.pixels):
            raise DataError("expected each trigger's rate in [0, 1] and its rows and columns from 0")


def check_prune_evaluation(evaluation: PruneEvaluation, details: PruningDetails) -> None:
    """Check that an evaluation has a value for each testing point and each stage, of each attack.

    Raises:
        DataError: a value is missing or extra.
    """
    points, stages = len(details.points), len(details.stages)
    for name, values, wanted, what in (
        ("asr_along", evaluation.asr_along, points, "testing points"),
        ("accuracy", evaluation.accuracy, stages, "stages"),
        ("asr", evaluation.asr, stages, "stages"),
    ):
        if len(values) != wanted:
            raise DataError(f"{name} has {len(values)} values, but the pruning has {wanted} {what}")
    counts = sorted({len(rates) for rates in (*evaluation.asr_along, *evaluation.asr)})
    if len(counts) != 1 or counts[0] == 0:
        raise DataError(f"expected one success rate for each attack, everywhere as many; got {counts}")


@dataclass(frozen=True, eq=False)
class PageContents:
    """The contents of one page.

    Attributes:
        title: the page's heading.
        scan, repair: results, if there are any.
        rounds: the federation's rounds, in order.
        decisions: of a guard, in order.
        attacks, attacked_rounds, evaluation, prune_evaluation: what only a simulation knows. The page marks them as
            unknown to the defender.
        reference_round, suspect_round: the scan's two models, to mark on the federation's chart.
        settings: the simulation's settings; may be nested.

    Raises:
        DataError: a pruning contradicts itself, or an evaluation belongs to another repair.
    """

    title: str
    scan: ScanReport | None = None
    repair: RepairReport | None = None
    rounds: tuple[Round, ...] = ()
    decisions: tuple[Line, ...] = ()
    attacks: tuple[PlantedAttack, ...] = ()
    attacked_rounds: tuple[AttackedRound, ...] = ()
    evaluation: AttackEvaluation | None = None
    prune_evaluation: PruneEvaluation | None = None
    reference_round: int | None = None
    suspect_round: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pruning is not None:
            check_pruning(self.pruning)
        if self.prune_evaluation is not None:
            if self.pruning is None:
                raise DataError("expected a repair by pruning with its evaluation; got only an evaluation")
            check_prune_evaluation(self.prune_evaluation, self.pruning)

    @property
    def pruning(self) -> PruningDetails | None:
        """The details of a repair by pruning; None for other repairs."""
        details = self.repair.details if self.repair else None
        return details if isinstance(details, PruningDetails) else None

    @property
    def first_attack_round(self) -> int | None:
        """The first round in which any client attacks."""
        rounds = (attack.settings.get("first_round") for attack in self.attacks)
        return min((each for each in rounds if isinstance(each, int)), default=None)
