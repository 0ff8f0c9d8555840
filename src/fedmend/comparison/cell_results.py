"""What came of one federation of a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from fedmend.errors import DataError
from fedmend.federation import RunFolder, simulated_config
from fedmend.files import write_text
from fedmend.guard import History, Line
from fedmend.guard.decisions import Action
from fedmend.repairs.repair_report import Outcome

_Rate = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class CellRound:
    """The global model after one round.

    Attributes:
        round: its number.
        accuracy: on the test images, in [0, 1].
        asr: the attack success rate (ASR) of each attack. candidate_asr: that of the model before the guard's decision.
        decision: the guard's; None without one, and for the model before the first round.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    round: Annotated[int, Field(ge=0)]
    accuracy: _Rate
    asr: tuple[_Rate, ...] = ()
    candidate_asr: tuple[_Rate, ...] = ()
    decision: Action | None = None


@dataclass(frozen=True)
class CellResult:
    """One federation's result.

    Attributes:
        key: see :class:`fedmend.comparison.Cell`.
        ended: "complete"; "diverged": its training ended in NaN or infinite values; "failed": an error, which a resumed
            comparison tries again.
        rounds: in order, as far as they went.
        accuracy: of the model that is released in the end, in [0, 1]; None if none is.
        released_asr: the largest ASR, of any attack, of any model that was released since the attack began; None in an
            honest federation, or if no model was released.
        seconds: of the rounds, reviews and votes.
        repair: the outcome of the votes, if any.
        error: why it ended early.
        folder: the name of the run's folder; None in the folder's own file.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    key: str
    ended: Literal["complete", "diverged", "failed"]
    rounds: tuple[CellRound, ...]
    accuracy: _Rate | None
    released_asr: _Rate | None
    seconds: float
    repair: Outcome | None = None
    error: str | None = None
    folder: str | None = None

    @property
    def final_asr(self) -> float | None:
        """The largest ASR of any attack after the last round, before any vote."""
        return max(self.rounds[-1].asr, default=None) if self.rounds else None


_ADAPTER = TypeAdapter(CellResult)


def save_result(result: CellResult, path: Path) -> None:
    """Write a result as JSON.

    Raises:
        OutputError: it can't be written.
    """
    write_text(path, _ADAPTER.dump_json(result).decode() + "\n")


def read_result(path: Path) -> CellResult | None:
    """Read a result; None if there is none.

    Raises:
        DataError: it was damaged.
    """
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise DataError(f"{path} holds no cell's result; remove it to run the cell again") from error


def rounds_of(run: RunFolder) -> tuple[CellRound, ...]:
    """A run's rounds, with what only the attackers know and what a guard decided."""
    hidden = {each.round: each for each in run.attacker.records()}
    decided = {line.round: line.action for line in _lines(run)}
    found = []
    for record in run.records():
        known = hidden.get(record.round)
        asr = known.asr if known else ()
        candidate = (known.candidate_asr or ()) if known else ()
        found.append(CellRound(record.round, record.accuracy, asr, candidate, decided.get(record.round)))
    return tuple(found)


def released_asr(run: RunFolder, rounds: Sequence[CellRound]) -> float | None:
    """The largest ASR of any model that a run released since the attack began.

    Without a guard, every round's model is released. A guard releases what it accepts or repairs; after a rollback, the
    last such model is in use again. Before its first, and in a held round, it releases nothing new.
    """
    config = simulated_config(run)
    started = [attack.first_round for attack in config.attack]
    vouched = config.guard is None or any(line.round is None for line in _lines(run))
    rates = []
    for each in rounds:
        if each.round <= config.model.start_round or each.decision == "hold":
            continue
        vouched = vouched or each.decision in ("accept", "repair")
        if vouched:
            rates += [rate for rate, first in zip(each.asr, started, strict=False) if each.round >= first]
    return max(rates, default=None)


def seconds_of(run: RunFolder) -> float:
    """How long a run's rounds took; those that were measured again after a resumption don't count."""
    return sum(record.seconds or 0.0 for record in run.records())


def released_accuracy(run: RunFolder, rounds: Sequence[CellRound]) -> float | None:
    """Accuracy of the model in use in the end; None if a guard released none."""
    lines = list(_lines(run))
    if simulated_config(run).guard is not None and not _releases(lines):
        return None
    current = [each for each in rounds if each.decision != "hold"]
    return current[-1].accuracy if current else None


def _lines(run: RunFolder) -> tuple[Line, ...]:
    return History(run.guard).lines() if run.guard.exists() else ()


def _releases(lines: Iterable[Line]) -> bool:
    return any(line.action in ("accept", "repair") for line in lines)
