"""What a report can show. Every part but the title may be missing; the page then leaves its section out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ConfigDict

from fedmend.federation import RoundRecord
from fedmend.repair import RepairReport
from fedmend.scan_report import ScanReport
from fedmend.triggers import Trigger


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
    trigger: Trigger | None = None
    accuracy_before: float | None = None
    asr_before: float | None = None
    accuracy_after: float | None = None
    asr_after: float | None = None
    num_images: int | None = None


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
    repair: RepairReport | None = None
    attack: AttackEvaluation | None = None
    rounds: tuple[RoundRecord, ...] = ()
    reference_round: int | None = None
    suspect_round: int | None = None
    first_attack_round: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
