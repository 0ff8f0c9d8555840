"""What a report can show. Every part but the title may be missing; the page then leaves its section out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ConfigDict

from fedmend.scan_report import ScanReport, Verdict
from fedmend.triggers import Trigger

RepairOutcome = Literal["repaired", "failed", "not needed"]

_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True, ser_json_inf_nan="constants")


@dataclass(frozen=True)
class RepairSummary:
    """What a repair did, measured on held-out images.

    Shares are in [0, 1], times in seconds; None is what wasn't measured.

    Attributes:
        outcome: "repaired", "failed" (accuracy fell too far, or the trigger still works) or "not needed".
        reason: the outcome in a sentence or two, for a person.
        method, settings: how it was done.
        accuracy_before, accuracy_after: clean accuracy on the held-out images.
        num_heldout: how many held-out images there were.
        max_accuracy_drop: the share of clean accuracy that the repair was allowed to cost.
        reasr_before, reasr_after: the recovered trigger's success on held-out images of other classes.
        passes: how often scan and unlearning were run.
        verdict_after: what a new scan of the repaired model says.
        warnings: why the repair may not be trustworthy.
    """

    __pydantic_config__ = _STRICT

    outcome: RepairOutcome
    reason: str
    method: str = "unlearn"
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    num_heldout: int | None = None
    max_accuracy_drop: float | None = None
    reasr_before: float | None = None
    reasr_after: float | None = None
    passes: int = 1
    verdict_after: Verdict | None = None
    warnings: tuple[str, ...] = ()


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

    kind: Literal["sba", "dba"]
    target_class: int
    trigger: Trigger | None = None
    accuracy_before: float | None = None
    asr_before: float | None = None
    accuracy_after: float | None = None
    asr_after: float | None = None
    num_images: int | None = None


@dataclass(frozen=True)
class RoundRecord:
    """One round of a federation: the global model's clean accuracy and attack success rate, in [0, 1]."""

    round: int
    accuracy: float
    asr: float | None = None
    attackers: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class ReportContents:
    """Everything that one page shows.

    Attributes:
        title: the page's heading.
        scan, repair, attack: results, where there are any.
        rounds: the federation's rounds, in order.
        reference_round, suspect_round, first_attack_round: rounds to mark on the federation's chart.
        settings: the simulation's settings; may be nested.
        versions: package versions by name. The scan's own are shown where this is empty.
    """

    title: str
    scan: ScanReport | None = None
    repair: RepairSummary | None = None
    attack: AttackEvaluation | None = None
    rounds: tuple[RoundRecord, ...] = ()
    reference_round: int | None = None
    suspect_round: int | None = None
    first_attack_round: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
