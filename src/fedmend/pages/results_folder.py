"""Gathers a page's contents from the files that other commands write to a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from fedmend.detection.scan_report import ScanReport
from fedmend.detection.tensors_beside import with_tensors
from fedmend.errors import DataError
from fedmend.guard import History, Line
from fedmend.pages.attacker_files import (
    read_attacked_rounds,
    read_attacks,
    read_evaluation,
    read_prune_evaluation,
)
from fedmend.pages.contents import PageContents, Round, check_pruning
from fedmend.pages.result_files import read_file, read_lines
from fedmend.repairs.repair_report import PruningDetails, RepairReport


@dataclass(frozen=True)
class _PageSettings:
    """``page.json``: settings that are in no other file."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    title: str | None = None
    reference_round: int | None = None
    suspect_round: int | None = None


_ROUND = TypeAdapter(Round)
_PAGE = TypeAdapter(_PageSettings)
_CONFIG = TypeAdapter(dict[str, Any])

_KNOWN = ("scan.json", "repair.json", "rounds.jsonl", "config.json")


def read_folder(folder: Path, pending: Mapping[str, str | None] = MappingProxyType({})) -> PageContents:
    """Gather the results in ``folder``, as far as they are there or about to be.

    ==================== =======================================================================================
    ``scan.json``        a :class:`~fedmend.detection.scan_report.ScanReport`
    ``repair.json``      a :class:`~fedmend.repairs.repair_report.RepairReport`
    ``rounds.jsonl``     round and accuracy, one round per line; lines torn by a killed run are skipped
    ``config.json``      the simulation's settings
    ``guard/``           a guard's history; the folder may also be one itself
    ``page.json``        see :func:`page_settings_file`
    ``attacker/``        unknown to the defender: see :mod:`fedmend.pages.attacker_files`
    ==================== =======================================================================================

    Args:
        folder: where the results are.
        pending: texts of JSON files that are about to be written, by name; None: the file is about to be removed.

    Raises:
        DataError: one of the files is damaged; or, with nothing pending, there is none.
        CheckpointError: the file of a planted trigger is damaged.
    """
    new = {folder / name: text for name, text in pending.items()}
    if not pending:
        _require_results(folder)
    page = read_file(folder / "page.json", _PAGE.validate_json, new) or _PageSettings()
    repair = read_file(folder / "repair.json", _parsed_repair, new, "repair again")
    details = repair.details if repair else None
    rounds = {record.round: record for record in read_lines(folder / "rounds.jsonl", _ROUND)}
    return PageContents(
        title=page.title or f"Results in {folder.resolve().name}",
        scan=read_file(folder / "scan.json", partial(_parsed_scan, folder), new, "scan again"),
        repair=repair,
        rounds=tuple(rounds[number] for number in sorted(rounds)),
        decisions=_decisions(folder),
        attacks=read_attacks(folder),
        attacked_rounds=read_attacked_rounds(folder),
        evaluation=read_evaluation(folder, new),
        prune_evaluation=read_prune_evaluation(folder, details, new)
        if isinstance(details, PruningDetails)
        else None,
        reference_round=page.reference_round,
        suspect_round=page.suspect_round,
        settings=read_file(folder / "config.json", _CONFIG.validate_json) or {},
    )


def page_settings_file(
    *, title: str | None = None, reference_round: int | None = None, suspect_round: int | None = None
) -> dict[str, str]:
    """``page.json`` for :func:`read_folder`: the page's settings that no result holds, as a text by its file's name.

    Args:
        title: the page's heading; by default it names the folder.
        reference_round, suspect_round: the rounds of the scan's two models, to mark on the federation's chart.
    """
    settings = _PageSettings(title, reference_round, suspect_round)
    return {"page.json": _PAGE.dump_json(settings, indent=2).decode() + "\n"}


def _require_results(folder: Path) -> None:
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; expected one with results ({', '.join(_KNOWN)})")
    if not any((folder / name).is_file() for name in _KNOWN) and not _decisions(folder):
        raise DataError(
            f"nothing to show in {folder}; expected at least one of {', '.join(_KNOWN)}, or a guard's history"
        )


def _decisions(folder: Path) -> tuple[Line, ...]:
    """A guard's decisions, after its history was read as a whole."""
    for history in (History(folder), History(folder / "guard")):
        if history.exists():
            history.read()
            return history.lines()
    return ()


def _parsed_scan(folder: Path, text: bytes) -> ScanReport:
    return ScanReport.from_json(with_tensors(text, folder))


def _parsed_repair(text: bytes) -> RepairReport:
    report = RepairReport.from_json(text)
    if isinstance(report.details, PruningDetails):
        check_pruning(report.details)
    return report
