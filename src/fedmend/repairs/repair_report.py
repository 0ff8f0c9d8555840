"""TEMPORARY: the merge replaces this file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fedmend.detection.base import Verdict
from fedmend.errors import DataError
from fedmend.repairs.vote_pruning import Move, Stage, VotedTrigger

Outcome = Literal["repaired", "failed", "not needed", "undecided"]


@dataclass(frozen=True)
class TargetCheck:
    """Success of a recovered trigger before and after."""

    target: int
    sources: tuple[int, ...]
    success_before: float
    success_after: float


@dataclass(frozen=True)
class UnlearningDetails:
    """What only unlearning has."""

    passes: int
    triggers: int


@dataclass(frozen=True)
class PruningDetails:
    """What only pruning has: today's PruneReport less what moved to RepairReport."""

    layer: str
    channels: int
    vote: Literal["ranking", "majority"]
    ballots: int
    refused: dict[str, int]
    missing: int
    sequence: tuple[int, ...]
    points: tuple[int, ...]
    accuracies: tuple[float, ...]
    pruned: tuple[int, ...]
    stages: tuple[Stage, ...]
    extreme: tuple[tuple[int, ...], ...]
    values: tuple[float, ...]
    device: str = "cpu"
    versions: dict[str, str] = field(default_factory=dict)
    triggers: tuple[VotedTrigger, ...] = ()

    @property
    def moves(self) -> tuple[Move, ...]:
        """As today."""
        groups: dict[tuple[int, int], list[VotedTrigger]] = {}
        for trigger in self.triggers:
            groups.setdefault((trigger.source_class, trigger.target_class), []).append(trigger)
        merged = [
            Move(max(group, key=lambda each: each.rate), len({each.client for each in group}))
            for group in groups.values()
        ]
        return tuple(sorted(merged, key=lambda move: (-move.best.rate, -move.clients)))


@dataclass(frozen=True)
class RepairReport:
    """How a repair went."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    outcome: Outcome
    reason: str
    method: str
    settings: dict[str, Any]
    seconds: float
    accuracy_before: float
    accuracy_after: float
    accuracy_error: float
    num_heldout: int
    max_accuracy_drop: float
    verdict_after: Verdict | None
    target_checks: tuple[TargetCheck, ...] = ()
    details: UnlearningDetails | PruningDetails | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> str:
        """As JSON."""
        return _ADAPTER.dump_json(self, indent=2).decode()

    @staticmethod
    def from_json(text: str | bytes) -> RepairReport:
        """Undo :meth:`to_json`."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise DataError(f"not a fedmend repair report: {error}") from error


_ADAPTER = TypeAdapter(RepairReport)
