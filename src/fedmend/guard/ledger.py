"""What a guard's history amounts to: the accepted models and the counts, by adding up its lines."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fedmend.errors import DataError
from fedmend.guard.decisions import Line, Sha256, Stored

BEFORE_FIRST = "0" * 64
_LINE = TypeAdapter(Line)


@dataclass(frozen=True)
class Accepted:
    """A model that the guard accepted, and keeps.

    Attributes:
        stored: its file and digests.
        round: None for the model that the operator gave.
        parent: the round of the accepted model before it; None if there is none, or it was given.
        accuracy: on the guard's images, of a repaired model on those that it didn't learn from; in [0, 1].
        verdict: with which it was accepted.
        policy: the settings then. versions: of fedmend, torch and Python.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    stored: Stored
    round: int | None
    parent: int | None
    accuracy: float
    verdict: str
    policy: dict[str, Any]
    versions: dict[str, str]

    @property
    def said(self) -> str:
        """Which model it is, in words."""
        return (
            "the model given at the start" if self.round is None else f"round {self.round}'s accepted model"
        )


@dataclass(frozen=True)
class Ledger:
    """The sum of a history's lines.

    Attributes:
        seed: the guard's.
        lines: how many there are. head: SHA-256 of the last one, without its end.
        given: digest of the weights of the model that the operator gave, if one was.
        last_round: of the last decision; None before the first.
        reviews: rounds decided.
        rejections: how many in succession, up to now, were rolled back; a round that is held, or that brings weights
            which were accepted before, neither counts nor ends the succession.
        models: the accepted models that are kept, the newest last.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    seed: int
    lines: int = 0
    head: Sha256 = BEFORE_FIRST
    given: Sha256 | None = None
    last_round: int | None = None
    reviews: int = 0
    rejections: int = 0
    models: tuple[Accepted, ...] = ()

    @property
    def last(self) -> Accepted | None:
        """The newest accepted model."""
        return self.models[-1] if self.models else None

    def last_without(self, withdrawn: tuple[int, ...]) -> Accepted | None:
        """The newest accepted model that isn't among these numbers."""
        return next((each for each in reversed(self.models) if each.stored.number not in withdrawn), None)

    @property
    def next_number(self) -> int:
        """The number of the model that is accepted next."""
        return self.models[-1].stored.number + 1 if self.models else 0

    def add(self, line: Line, text: bytes) -> Ledger:
        """The ledger with one more line.

        Args:
            line: the line. text: the same as in the file, without its end.

        Raises:
            DataError: the line doesn't follow those before.
        """
        if line.previous != self.head:
            raise DataError(f"line {self.lines + 1} doesn't hold the digest of the line before it")
        if line.seed != self.seed:
            raise DataError(f"line {self.lines + 1} has the seed {line.seed}; the guard's is {self.seed}")
        models = tuple(each for each in self.models if each.stored.number not in line.withdrawn)
        if line.stored is not None:
            parent = models[-1].round if models else None
            accuracy = line.evidence["accuracy"]["released"]
            models += (
                Accepted(line.stored, line.round, parent, accuracy, line.verdict, line.policy, line.versions),
            )
            models = models[-line.policy["history_limit"] :]
        rejections = self.rejections + 1 if line.action == "rollback" else 0
        if line.action == "hold" or self._replayed(line):
            rejections = self.rejections
        return replace(
            self,
            lines=self.lines + 1,
            head=hashlib.sha256(text).hexdigest(),
            given=line.stored.weights if line.round is None and line.stored else self.given,
            last_round=self.last_round if line.round is None else line.round,
            reviews=self.reviews + (line.round is not None),
            rejections=rejections,
            models=models,
        )

    def _replayed(self, line: Line) -> bool:
        """Whether a line accepts weights that were accepted before."""
        if line.action != "accept":
            return False
        return line.stored is None or line.stored.weights in {each.stored.weights for each in self.models}


def parsed(text: bytes, number: int) -> Line:
    """One line of ``decisions.jsonl``.

    Raises:
        DataError: it isn't one; the message gives its number.
    """
    try:
        line = _LINE.validate_json(text)
        if line.stored is not None:
            accuracy, limit = line.evidence["accuracy"]["released"], line.policy["history_limit"]
            if not isinstance(accuracy, float) or not isinstance(limit, int) or limit < 1:
                raise TypeError(f"accuracy {accuracy!r}, history_limit {limit!r}")
    except (ValidationError, KeyError, TypeError) as error:
        raise DataError(f"line {number} is no decision") from error
    return line


def as_text(line: Line) -> bytes:
    """The line as it is written, without its end."""
    return _LINE.dump_json(line)
