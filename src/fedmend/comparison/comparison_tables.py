"""A comparison as data: CSV and parquet, one line for each cell or each round, and JSON with everything."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from fedmend.comparison.combination_rows import Row, SeedRun
from fedmend.comparison.comparison_plan import Limits
from fedmend.guard.decisions import Action
from fedmend.version_info import versions

SCHEMA = "fedmend-comparison/1"
LETTERS: dict[Action, str] = {"accept": "A", "repair": "P", "rollback": "R", "hold": "H"}
"""A guard's decisions in short."""

Line = Mapping[str, Any]


def cell_lines(rows: Sequence[Row]) -> list[Line]:
    """A line for each cell that has run: its choices and seed, and its figures; fractions in [0, 1]."""
    return [
        {
            **_named(run),
            "ended": run.result.ended,
            "accuracy": run.result.accuracy,
            "honest_accuracy": run.honest.accuracy if run.honest else None,
            "accuracy_lost": run.accuracy_lost,
            "released_asr": run.result.released_asr,
            "final_asr": run.result.final_asr,
            "rounds": run.result.rounds[-1].round if run.result.rounds else None,
            "decisions": "".join(LETTERS[each.decision] for each in run.result.rounds if each.decision),
            "votes": run.result.repair,
            "seconds": round(run.result.seconds, 2),
            "error": run.result.error,
            "folder": run.result.folder,
        }
        for row in rows
        for run in row.runs
    ]


def round_lines(rows: Sequence[Row]) -> list[Line]:
    """A line for each round of each cell; with several attacks, their largest ASR."""
    return [
        {
            **_named(run),
            "round": each.round,
            "round_accuracy": each.accuracy,
            "asr": max(each.asr, default=None),
            "candidate_asr": max(each.candidate_asr, default=None),
            "decision": each.decision,
        }
        for row in rows
        for run in row.runs
        for each in run.result.rounds
    ]


def table_files(rows: Sequence[Row]) -> dict[str, str | Callable[[Path], None]]:
    """The files of both tables, by name; none without a cell that has run."""
    files: dict[str, str | Callable[[Path], None]] = {}
    for name, lines in (("cells", cell_lines(rows)), ("rounds", round_lines(rows))):
        if lines:
            files[f"{name}.csv"] = as_csv(lines)
            files[f"{name}.parquet"] = _parquet_writer(lines)
    return files


def as_csv(lines: Sequence[Line]) -> str:
    """CSV with a header; empty where there is no value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def as_json(rows: Sequence[Row], limits: Limits) -> str:
    """Each combination's summary over its seeds, and each of its cells with settings and rounds."""
    found = [
        {
            "choices": dict(row.choices),
            "planned": row.planned,
            "misses": list(row.misses),
            **{
                name: None if value is None else asdict(value)
                for name, value in (
                    ("accuracy", row.accuracy),
                    ("accuracy_lost", row.lost),
                    ("released_asr", row.released_asr),
                    ("final_asr", row.final_asr),
                    ("seconds", row.seconds),
                )
            },
            "cells": [
                {"seed": run.cell.config.seed, "settings": run.cell.settings}
                | asdict(run.result)
                | {"accuracy_lost": run.accuracy_lost}
                for run in row.runs
            ],
        }
        for row in rows
    ]
    table = {"schema": SCHEMA, "versions": versions(), "limits": asdict(limits), "combinations": found}
    return json.dumps(table, indent=1) + "\n"


def _named(run: SeedRun) -> dict[str, Any]:
    return {**run.cell.choices, "seed": run.cell.config.seed}


def _parquet_writer(lines: Sequence[Line]) -> Callable[[Path], None]:
    columns = {name: [line[name] for line in lines] for name in lines[0]}
    return lambda path: pyarrow.parquet.write_table(pyarrow.table(columns), path)
