"""What a report can show. Every part but the title may be missing; the page then leaves its section out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from fedmend.detection.scan_report import ScanReport
from fedmend.errors import DataError
from fedmend.federation import RoundRecord
from fedmend.repairs.repairing import RepairReport
from fedmend.repairs.vote_pruning import PruneReport
from fedmend.triggers import Patch

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, eq=False)
class AttackEvaluation:
    """Measured with the attacker's own trigger, which only a simulation knows. Shares are in [0, 1].

    Attributes:
        kind: "sba" (one attacker with the whole trigger) or "dba" (several, with a part each).
        target_class: the class that the attacker wants stamped images to be taken for.
        trigger: the trigger as planted, or None where it was not kept.
        accuracy_before, asr_before: the suspect's clean accuracy and attack success rate.
        accuracy_after, asr_after: the repaired model's.
        num_images: how many test images they were measured on.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    kind: Literal["sba", "dba"]
    target_class: int
    trigger: Patch | None = None
    accuracy_before: float | None = None
    asr_before: float | None = None
    accuracy_after: float | None = None
    asr_after: float | None = None
    num_images: int | None = None


@dataclass(frozen=True)
class PruneEvaluation:
    """Measured in a simulation on test images with the attacker's own trigger, unknown to the defender.

    Shares are in [0, 1].

    Attributes:
        asr_along: the attack success rate at each of the pruning report's testing points.
        accuracy, asr: the model's after each of the report's stages, in their order.
        num_images: how many test images there were.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    asr_along: tuple[Share, ...]
    accuracy: tuple[Share, ...]
    asr: tuple[Share, ...]
    num_images: Annotated[int, Field(ge=1)]


def check_pruning(report: PruneReport) -> None:
    """Check that a report's parts speak of the same channels, points and weights, and of triggers that there can be.

    Raises:
        DataError: they don't.
    """
    points, along = report.points, len(report.accuracies)
    if len(report.sequence) != report.channels or sorted(report.sequence) != list(range(report.channels)):
        raise DataError(f"expected a sequence that names each of the {report.channels} channels once")
    if len(points) != along:
        raise DataError(f"expected an accuracy for each testing point; got {along} for {len(points)}")
    if not all(low < high for low, high in pairwise((-1, *points, report.channels))):
        raise DataError(f"expected testing points that rise from 0 to below {report.channels} channels")
    if report.pruned != report.sequence[: len(report.pruned)]:
        raise DataError("expected the pruned channels to be the first of the sequence")
    if not report.stages:
        raise DataError("expected at least one stage; got none")
    if len(report.extreme) != len(report.values) or any(len(place) != 4 for place in report.extreme):
        raise DataError("expected a place of four numbers and a value for each extreme weight")
    for trigger in report.triggers:
        if not 0 <= trigger.rate <= 1 or any(min(pixel) < 0 for pixel in trigger.pixels):
            raise DataError("expected each trigger's rate in [0, 1] and its rows and columns from 0")


def check_prune_evaluation(evaluation: PruneEvaluation, report: PruneReport) -> None:
    """Check that an evaluation has the length of the report it belongs to.

    Raises:
        DataError: it hasn't.
    """
    points, stages = len(report.points), len(report.stages)
    for name, values, wanted, what in (
        ("asr_along", evaluation.asr_along, points, "testing points"),
        ("accuracy", evaluation.accuracy, stages, "stages"),
        ("asr", evaluation.asr, stages, "stages"),
    ):
        if len(values) != wanted:
            raise DataError(f"{name} has {len(values)} values, but the pruning report has {wanted} {what}")


@dataclass(frozen=True, eq=False)
class ReportContents:
    """Everything that one page shows.

    Attributes:
        title: the page's heading.
        scan, repair, attack: results, where there are any.
        pruning, prune_evaluation: a repair by pruning, and what a simulation knows of it besides.
        rounds: the federation's rounds, in order.
        reference_round, suspect_round, first_attack_round: rounds to mark on the federation's chart.
        settings: the simulation's settings; may be nested.
        versions: package versions by name. The scan's own are shown where this is empty.

    Raises:
        DataError: the pruning report contradicts itself, or its evaluation is of another report or of none.
    """

    title: str
    scan: ScanReport | None = None
    repair: RepairReport | None = None
    attack: AttackEvaluation | None = None
    pruning: PruneReport | None = None
    prune_evaluation: PruneEvaluation | None = None
    rounds: tuple[RoundRecord, ...] = ()
    reference_round: int | None = None
    suspect_round: int | None = None
    first_attack_round: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pruning is not None:
            check_pruning(self.pruning)
        if self.prune_evaluation is not None:
            if self.pruning is None:
                raise DataError("expected a pruning report beside its evaluation; got an evaluation alone")
            check_prune_evaluation(self.prune_evaluation, self.pruning)
