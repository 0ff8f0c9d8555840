"""Several scans by one command, with one summary."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmend.cli.console import show
from fedmend.cli.recording import file_record
from fedmend.cli.saving import save_summary
from fedmend.detection import ScanReport
from fedmend.errors import ConfigError, FedmendError

SCHEMA = "fedmend-scans/1"
_WORST_FIRST = {"backdoored": 1, "error": 2, "inconclusive": 3, "clean": 0}
"""Exit codes."""


@dataclass(frozen=True)
class Scan:
    """One of several scans: a suspect and a seed, with a folder of its own."""

    suspect: Path
    seed: int
    folder: Path


def expanded(words: Sequence[str], reference: Path | None) -> list[Path]:
    """The model files that words name; a word with ``*``, ``?`` or ``[`` that is no file is a pattern.

    A pattern doesn't match the reference.

    Raises:
        ConfigError: a pattern matches nothing.
    """
    paths: list[Path] = []
    for word in words:
        if os.path.lexists(word) or not glob.has_magic(word):
            paths.append(Path(word))
            continue
        found = [Path(name) for name in sorted(glob.glob(word, recursive=True))]  # noqa: PTH207
        found = [path for path in found if reference is None or path.resolve() != reference.resolve()]
        if not found:
            raise ConfigError(f"no file matches {word!r}; expected model files other than the reference")
        paths += found
    return list(dict.fromkeys(paths))


def planned(suspects: Sequence[Path], seed: int, seeds: int, out: Path) -> list[Scan]:
    """Each suspect with each seed; the folders are named after both, below ``out``, with numbers if names repeat."""
    stems = [path.stem for path in suspects]
    numbered = len({stem.casefold() for stem in stems}) < len(stems)  # some disks take a.pt and A.pt for one
    scans = []
    for number, path in enumerate(suspects, start=1):
        name = f"{number}-{path.stem}" if numbered else path.stem
        for each in range(seed, seed + seeds):
            scans.append(Scan(path, each, out / (name if seeds == 1 else f"{name}-seed-{each}")))
    return scans


def run_all(
    scans: Sequence[Scan],
    out: Path,
    scan_one: Callable[[Scan], ScanReport],
    *,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Run the scans, write ``summary.json`` to ``out`` and print it.

    A scan that fails is an error in the summary, and the others go on.

    Returns:
        The worst exit code: backdoored, error, inconclusive, clean.

    Raises:
        CheckpointError: a file can't be read.
        FedmendError: all scans fail.
    """
    digests = {each.suspect: file_record(each.suspect).sha256 for each in scans}
    rows: list[dict[str, Any]] = []
    failures: list[FedmendError] = []
    for each in scans:
        row: dict[str, Any] = {
            "suspect": str(each.suspect),
            "sha256": digests[each.suspect],
            "seed": each.seed,
        }
        try:
            rows.append(row | _told(scan_one(each), each.folder.relative_to(out)))
        except FedmendError as error:
            failures.append(error)
            rows.append(row | _failed(error))
    if len(failures) == len(scans):
        raise failures[0]
    verdicts = {row["verdict"] for row in rows}
    verdict = next(each for each in _WORST_FIRST if each in verdicts)
    text = json.dumps(
        {"schema": SCHEMA, "verdict": verdict, "exit": _WORST_FIRST[verdict], "scans": rows},
        indent=2,
        ensure_ascii=False,
    )
    path = save_summary(out, text + "\n", overwrite=overwrite)
    show(
        text
        if as_json
        else "\n".join(
            [
                _table(rows),
                f"{verdict.upper()} is the worst of {len(rows)}.",
                *dict.fromkeys(row["scope"] for row in rows if row["scope"]),
                f"Summary: {path}",
            ]
        )
    )
    return _WORST_FIRST[verdict]


def _told(report: ScanReport, folder: Path) -> dict[str, Any]:
    p_values = [finding.p_value for finding in report.findings if finding.p_value is not None]
    return {
        "verdict": report.verdict,
        "reason": report.reason,
        "p_value": min(p_values, default=None),
        "scope": report.scope,
        "folder": str(folder),
    }


def _failed(error: FedmendError) -> dict[str, Any]:
    reason = " ".join(str(error).split())
    return {"verdict": "error", "reason": reason, "p_value": None, "scope": "", "folder": None}


def _table(rows: Sequence[dict[str, Any]]) -> str:
    width = max(len(row["suspect"]) for row in rows)
    return "\n".join(
        f"{row['verdict'].upper():12}  {row['suspect']:{width}}  seed {row['seed']}  {row['reason']}"
        for row in rows
    )
