"""A report's contents: gathered from the files that the other commands leave in a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fedmend.checkpoints import read_trigger, save_trigger
from fedmend.detection.scan_report import ScanReport
from fedmend.errors import DataError
from fedmend.federation import RoundRecord, RunFolder
from fedmend.files import write_text
from fedmend.pages.contents import (
    AttackEvaluation,
    PruneEvaluation,
    ReportContents,
    check_prune_evaluation,
    check_pruning,
)
from fedmend.repairs.repairing import RepairReport
from fedmend.repairs.vote_pruning import PruneReport

_T = TypeVar("_T")


@dataclass(frozen=True)
class _PageSettings:
    """``report.json``: what no other file holds."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    title: str | None = None
    reference_round: int | None = None
    suspect_round: int | None = None


_EVALUATION = TypeAdapter(AttackEvaluation)
_PRUNE_EVALUATION = TypeAdapter(PruneEvaluation)
_PAGE = TypeAdapter(_PageSettings)
_CONFIG = TypeAdapter(dict[str, Any])

_KNOWN = ("scan.json", "repair.json", "prune.json", "evaluation.json", "rounds.jsonl", "config.json")
_TRIGGER = "planted_trigger.safetensors"


def read_folder(folder: Path) -> ReportContents:
    """Gather the results in ``folder``, whichever of them are there.

    =============================== =================================================================
    ``scan.json``                   a :class:`~fedmend.detection.scan_report.ScanReport`
    ``repair.json``                 a :class:`~fedmend.repairs.repairing.RepairReport`
    ``prune.json``                  a :class:`~fedmend.repairs.vote_pruning.PruneReport`
    ``prune_evaluation.json``       see :func:`write_prune_evaluation`; only with a ``prune.json``
    ``evaluation.json``             see :func:`write_evaluation`
    ``planted_trigger.safetensors`` the attacker's trigger
    ``rounds.jsonl``                a :class:`~fedmend.federation.RoundRecord` a line; a torn line,
                                    as a killed run leaves it, is passed over
    ``config.json``                 the simulation's settings; marks the first attack's round
    ``report.json``                 see :func:`write_page_settings`
    =============================== =================================================================

    Raises:
        DataError: there is no such folder, none of the files is in it, or one of them is damaged.
        CheckpointError: the trigger's file is damaged.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; expected one with results ({', '.join(_KNOWN)})")
    if not any((folder / name).is_file() for name in _KNOWN):
        raise DataError(f"nothing to report in {folder}; expected at least one of {', '.join(_KNOWN)}")
    page = _read(folder / "report.json", _PAGE.validate_json) or _PageSettings()
    scan = _read(folder / "scan.json", ScanReport.from_json, "scan again")
    pruning = _read(folder / "prune.json", _checked_pruning, "prune again")
    config = _read(folder / "config.json", _CONFIG.validate_json) or {}
    return ReportContents(
        title=page.title or f"Report on {folder.resolve().name}",
        scan=scan,
        repair=_read(folder / "repair.json", RepairReport.from_json, "repair again"),
        attack=_read_attack(folder, config),
        pruning=pruning,
        prune_evaluation=_read_prune_evaluation(folder, pruning),
        rounds=_read_rounds(folder),
        reference_round=page.reference_round,
        suspect_round=page.suspect_round,
        first_attack_round=_first_attack_round(config),
        settings=config,
        versions=scan.versions if scan else {},
    )


def write_evaluation(folder: Path, evaluation: AttackEvaluation) -> None:
    """Write ``evaluation.json`` for :func:`read_folder`.

    The trigger, where the evaluation has one, goes into ``planted_trigger.safetensors``, where a simulation keeps
    it too.

    Raises:
        OutputError: a file can't be written.
    """
    if evaluation.trigger is not None:
        save_trigger(evaluation.trigger, folder / _TRIGGER)
    text = _EVALUATION.dump_json(evaluation, indent=2, exclude={"trigger"}).decode()
    write_text(folder / "evaluation.json", text + "\n")


def write_prune_evaluation(folder: Path, evaluation: PruneEvaluation) -> None:
    """Write ``prune_evaluation.json`` for :func:`read_folder`, beside the ``prune.json`` it belongs to.

    Raises:
        OutputError: the file can't be written.
    """
    text = _PRUNE_EVALUATION.dump_json(evaluation, indent=2).decode()
    write_text(folder / "prune_evaluation.json", text + "\n")


def write_page_settings(
    folder: Path,
    *,
    title: str | None = None,
    reference_round: int | None = None,
    suspect_round: int | None = None,
) -> None:
    """Write ``report.json`` for :func:`read_folder`: what a page shows and no result holds.

    Args:
        folder: where the results are.
        title: the page's heading; by default it names the folder.
        reference_round, suspect_round: the rounds of the scan's two models, to mark on the federation's chart.

    Raises:
        OutputError: the file can't be written.
    """
    settings = _PageSettings(title, reference_round, suspect_round)
    write_text(folder / "report.json", _PAGE.dump_json(settings, indent=2).decode() + "\n")


def _read(path: Path, parse: Callable[[bytes], _T], advice: str = "write it again") -> _T | None:
    """What ``parse`` makes of a file, or None where there is none."""
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    except (DataError, ValidationError) as error:
        raise DataError(
            f"{path} is damaged: {_one_line(error)}; {advice}, or remove it to do without"
        ) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"can't read {path}: {error.strerror or error}")


def _one_line(error: BaseException) -> str:
    """The first problem alone; a report's own error has pydantic's long one for its cause."""
    if isinstance(error, DataError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else first["msg"]
    return " ".join(str(error).split())


def _read_rounds(folder: Path) -> tuple[RoundRecord, ...]:
    run = RunFolder(folder)
    try:
        return run.records()
    except OSError as error:
        raise _unreadable(run.records_file, error) from error


def _read_attack(folder: Path, config: dict[str, Any]) -> AttackEvaluation | None:
    measured = _read(folder / "evaluation.json", _EVALUATION.validate_json)
    trigger = read_trigger(folder / _TRIGGER) if (folder / _TRIGGER).exists() else None
    if measured is not None:
        return replace(measured, trigger=trigger)
    attack = config.get("attack")
    if trigger is None or not isinstance(attack, dict):
        return None
    kind, target = attack.get("kind"), attack.get("target_class")
    if kind not in ("sba", "dba") or not isinstance(target, int):
        return None
    return AttackEvaluation(kind=kind, target_class=target, trigger=trigger)


def _checked_pruning(text: bytes) -> PruneReport:
    report = PruneReport.from_json(text)
    check_pruning(report)
    return report


def _read_prune_evaluation(folder: Path, pruning: PruneReport | None) -> PruneEvaluation | None:
    path = folder / "prune_evaluation.json"
    measured = _read(path, _PRUNE_EVALUATION.validate_json)
    if measured is None:
        return None
    if pruning is None:
        raise DataError(f"{path} has no prune.json beside it, which it belongs to; prune again, or remove it")
    try:
        check_prune_evaluation(measured, pruning)
    except DataError as error:
        raise DataError(
            f"{path} doesn't belong to the prune.json beside it: {error}; write it again, or remove it"
        ) from error
    return measured


def _first_attack_round(config: dict[str, Any]) -> int | None:
    attack = config.get("attack")
    first = attack.get("first_round") if isinstance(attack, dict) else None
    return first if isinstance(first, int) else None
