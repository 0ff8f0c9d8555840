"""Repair: a backdoored model and its scan to a repaired model, never worse than what came in."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from fedmend.errors import ConfigError, DataError
from fedmend.metrics import accuracy, attack_success_rate
from fedmend.progress import Progress, silent
from fedmend.scan import scan
from fedmend.scan_report import ScanReport, Verdict
from fedmend.seeds import derive_seed, generator
from fedmend.unlearning import Unlearning

Outcome = Literal["repaired", "failed", "not needed"]


@dataclass(frozen=True)
class RepairReport:
    """How a repair went. Shares are in [0, 1] and measured on held-out images, which no step of it trained on.

    Attributes:
        outcome: "repaired"; "failed" where the result would be worse than allowed or is still backdoored; "not
            needed" where the scan found no backdoor.
        reason: the outcome in a sentence, for a person.
        accuracy_before, accuracy_after: clean accuracy of the suspect and of the repaired model.
        reasr_before, reasr_after: share of stamped held-out images sent to the target, with the recovered trigger.
        max_accuracy_drop: the largest fall of the clean accuracy that is allowed.
        passes: how often a trigger was searched and unlearned.
        verdict_after: what a new scan of the repaired model says, or None if there was none.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    outcome: Outcome
    reason: str
    method: str
    settings: dict[str, Any]
    seconds: float
    accuracy_before: float
    accuracy_after: float
    num_heldout: int
    max_accuracy_drop: float
    reasr_before: float
    reasr_after: float
    passes: int
    verdict_after: Verdict | None
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        """The report as JSON text."""
        return _ADAPTER.dump_json(self, indent=2).decode()

    @staticmethod
    def from_json(text: str | bytes) -> RepairReport:
        """Read what :meth:`to_json` wrote.

        Raises:
            DataError: the text is not such a report.
        """
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise DataError(f"not a fedmend repair report: {error}") from error


_ADAPTER = TypeAdapter(RepairReport)
