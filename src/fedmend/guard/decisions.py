"""What a guard decides about a round, and the line that records it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints
from torch import Tensor

Action = Literal["accept", "hold", "repair", "rollback"]
GuardVerdict = Literal[
    "clean",
    "unchanged",
    "trusted",
    "warm-up",
    "unchecked",
    "backdoored",
    "inconclusive",
    "no trusted reference",
    "not finite",
    "wrong shape",
    "below the floor",
    "scan failed",
    "time limit",
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, eq=False)
class Decision:
    """What a guard decided about a round's candidate.

    Attributes:
        round: the round's number.
        action: "accept": the candidate is released. "repair": a repaired candidate is, which a new scan found clean.
            "rollback": the last accepted model stays. "hold": the policy doesn't scan this round; the last accepted
            model stays released, and training goes on with the candidate until the next scan.
        released: the whole ``state_dict`` of the newest model that the guard vouches for, on the CPU; None if there is
            none yet.
        verdict: why: of the scans, or what ruled before one: see ``GuardVerdict``.
        reason: a sentence or two for a person.
        stop: whether the policy says that the federation should stop.
        evidence: what the decision rests on, as JSON has it: ``accuracy``, ``digests``, ``scans``, ``repair``.
        continue_from: the ``state_dict`` that the next round starts from: ``released``, or, in a "hold", the candidate.
    """

    round: int
    action: Action
    released: Mapping[str, Tensor] | None
    verdict: GuardVerdict
    reason: str
    stop: bool = False
    evidence: Mapping[str, Any] = field(default_factory=dict)
    continue_from: Mapping[str, Tensor] | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything but the weights, as a table that JSON can hold."""
        return {
            "round": self.round,
            "action": self.action,
            "verdict": self.verdict,
            "reason": self.reason,
            "stop": self.stop,
            "evidence": dict(self.evidence),
        }


@dataclass(frozen=True)
class Stored:
    """A model that a line put into the history.

    Attributes:
        number: it is the how many-th accepted model, from 0.
        file: its name in the folder ``models``.
        sha256: of the file. weights: of its weights, whatever the file: see :func:`fedmend.guard.weights.digest`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    number: Annotated[int, Field(ge=0)]
    file: Annotated[str, StringConstraints(pattern=r"^[a-z]+(-\d+)*\.safetensors$")]
    sha256: Sha256
    weights: Sha256


@dataclass(frozen=True)
class Line:
    """One line of ``decisions.jsonl``.

    Attributes:
        round: None for the model that the operator gave.
        action, verdict, reason, stop, evidence: see :class:`Decision`.
        policy: the guard's settings. seed: the guard's. versions: of fedmend, torch and Python.
        date: when, UTC, ISO 8601. seconds: how long it took.
        previous: SHA-256 of the line before, without its end; zeros in the first.
        stored: the model that was accepted, if one was.
        withdrawn: numbers of models that were accepted and are no longer trusted.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    round: Annotated[int, Field(ge=0)] | None
    action: Action
    verdict: GuardVerdict
    reason: str
    stop: bool
    evidence: dict[str, Any]
    policy: dict[str, Any]
    seed: int
    versions: dict[str, str]
    date: str
    seconds: float
    previous: Sha256
    stored: Stored | None = None
    withdrawn: tuple[int, ...] = ()


def counted(lines: Iterable[Line]) -> str:
    """How often each action was taken, in words."""
    counts = Counter(line.action for line in lines)
    words: dict[Action, str] = {
        "accept": "accepted",
        "repair": "repaired",
        "rollback": "rolled back",
        "hold": "held",
    }
    return ", ".join(f"{counts[action]} {word}" for action, word in words.items() if counts[action]) or "none"
