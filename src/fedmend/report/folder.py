"""Gathering a report's contents from the files that the other commands leave in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load

from fedmend.errors import DataError
from fedmend.report.contents import AttackEvaluation, RepairSummary, ReportContents, RoundRecord
from fedmend.scan_report import ScanReport
from fedmend.triggers import Trigger

_T = TypeVar("_T")
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class _Evaluation:
    """``evaluation.json``: an :class:`AttackEvaluation` without its trigger, which has a file of its own."""

    __pydantic_config__ = _STRICT

    kind: Literal["sba", "dba"]
    target_class: int
    accuracy_before: float | None = None
    asr_before: float | None = None
    accuracy_after: float | None = None
    asr_after: float | None = None
    num_images: int | None = None


@dataclass(frozen=True)
class _RoundLine:
    """A line of ``rounds.jsonl``."""

    __pydantic_config__ = _STRICT

    round: int
    accuracy: float
    asr: float | None = None
    clients: tuple[int, ...] = ()
    attackers: tuple[int, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class _PageSettings:
    """``report.json``: what no other file holds."""

    __pydantic_config__ = _STRICT

    title: str | None = None
    reference_round: int | None = None
    suspect_round: int | None = None


_REPAIR = TypeAdapter(RepairSummary)
_EVALUATION = TypeAdapter(_Evaluation)
_ROUND = TypeAdapter(_RoundLine)
_PAGE = TypeAdapter(_PageSettings)
_CONFIG = TypeAdapter(dict[str, Any])

_KNOWN = ("scan.json", "repair.json", "evaluation.json", "rounds.jsonl", "config.json")


def read_folder(folder: Path) -> ReportContents:
    """Gather the results in ``folder``, whichever of them are there.

    =============================== =================================================================
    ``scan.json``                   a :class:`~fedmend.scan_report.ScanReport`
    ``repair.json``                 a :class:`~fedmend.report.contents.RepairSummary`
    ``evaluation.json``             a :class:`~fedmend.report.contents.AttackEvaluation`, less its trigger
    ``planted_trigger.safetensors`` that trigger: mask and pattern
    ``rounds.jsonl``                an object a round; a torn last line is passed over
    ``config.json``                 the simulation's settings; marks the first attack's round
    ``report.json``                 title, reference_round, suspect_round; each may be missing
    =============================== =================================================================

    Raises:
        DataError: there is no such folder, none of the files is in it, or one of them is damaged.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; expected one with results ({', '.join(_KNOWN)})")
    if not any((folder / name).is_file() for name in _KNOWN):
        raise DataError(f"nothing to report in {folder}; expected at least one of {', '.join(_KNOWN)}")
    page = _read(folder / "report.json", _PAGE) or _PageSettings()
    scan = _read_scan(folder / "scan.json")
    config = _read(folder / "config.json", _CONFIG) or {}
    return ReportContents(
        title=page.title or f"Report on {folder.resolve().name}",
        scan=scan,
        repair=_read(folder / "repair.json", _REPAIR),
        attack=_read_attack(folder, config),
        rounds=_read_rounds(folder / "rounds.jsonl"),
        reference_round=page.reference_round,
        suspect_round=page.suspect_round,
        first_attack_round=_first_attack_round(config),
        settings=config,
        versions=scan.versions if scan else {},
    )


def _read_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}") from error


def _read(path: Path, adapter: TypeAdapter[_T]) -> _T | None:
    raw = _read_bytes(path)
    if raw is None:
        return None
    try:
        return adapter.validate_json(raw)
    except ValidationError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path | str, error: Exception) -> DataError:
    return DataError(f"{path} is damaged: {_one_line(error)}; write it again, or remove it to do without")


def _one_line(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else first["msg"]
    return " ".join(str(error).split())


def _read_scan(path: Path) -> ScanReport | None:
    raw = _read_bytes(path)
    if raw is None:
        return None
    try:
        return ScanReport.from_json(raw)
    except DataError as error:
        raise DataError(
            f"{path} is not a scan report: {_one_line(error.__cause__ or error)}; scan again"
        ) from error


def _read_rounds(path: Path) -> tuple[RoundRecord, ...]:
    lines = [line for line in (_read_bytes(path) or b"").split(b"\n") if line.strip()]
    rounds: dict[int, RoundRecord] = {}
    for number, line in enumerate(lines, start=1):
        try:
            parsed = _ROUND.validate_json(line)
        except ValidationError as error:
            if number == len(lines):
                break
            raise _damaged(f"{path}, line {number},", error) from error
        rounds[parsed.round] = RoundRecord(parsed.round, parsed.accuracy, parsed.asr, parsed.attackers)
    return tuple(rounds[number] for number in sorted(rounds))


def _read_trigger(path: Path) -> Trigger | None:
    raw = _read_bytes(path)
    if raw is None:
        return None
    try:
        tensors = load(raw)
        return Trigger(tensors["mask"], tensors["pattern"])
    except KeyError as error:
        raise _damaged(
            path, DataError(f"expected the tensors mask and pattern, there is no {error}")
        ) from error
    except (SafetensorError, DataError, ValueError) as error:
        raise _damaged(path, error) from error


def _read_attack(folder: Path, config: dict[str, Any]) -> AttackEvaluation | None:
    measured = _read(folder / "evaluation.json", _EVALUATION)
    trigger = _read_trigger(folder / "planted_trigger.safetensors")
    if measured is not None:
        return AttackEvaluation(trigger=trigger, **vars(measured))
    attack = config.get("attack")
    if trigger is None or not isinstance(attack, dict):
        return None
    kind, target = attack.get("kind"), attack.get("target_class")
    if kind not in ("sba", "dba") or not isinstance(target, int):
        return None
    return AttackEvaluation(kind=kind, target_class=target, trigger=trigger)


def _first_attack_round(config: dict[str, Any]) -> int | None:
    attack = config.get("attack")
    first = attack.get("first_round") if isinstance(attack, dict) else None
    return first if isinstance(first, int) else None
