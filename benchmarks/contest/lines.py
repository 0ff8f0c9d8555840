"""The lines of results/contest.jsonl, one for each federation that has run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.contest.federations import Federation, cell
from pydantic import TypeAdapter

from fedmend.comparison import CellResult, Limits, Row, rows_of

RESULTS = Path(__file__).resolve().parent / "results"
FILE = "contest.jsonl"
LIMITS = Limits(released_asr=0.05, accuracy_lost=0.01)

_RESULT = TypeAdapter(CellResult)

Line = dict[str, Any]


def load(results: Path = RESULTS) -> dict[str, Line]:
    """All lines by the names of their federations; none without the file."""
    path = results / FILE
    if not path.exists():
        return {}
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {line["name"]: line for line in lines}


def result_of(line: Line) -> CellResult:
    """A line's result."""
    return _RESULT.validate_python(line["result"], strict=False)


def as_line(name: str, result: CellResult, **told: Any) -> Line:
    """A result as a line, with what else is told about it."""
    return {"name": name, "result": json.loads(_RESULT.dump_json(result)), **told}


def rows(wanted: Iterable[Federation], lines: Mapping[str, Line]) -> tuple[Row, ...]:
    """The rows of those federations that have run.

    A line belongs to a federation by its name: a later version of fedmend may write settings otherwise.
    """
    found, cells = {}, []
    for federation in wanted:
        if federation.attack is None or federation.name not in lines:
            continue
        made = cell(federation)
        cells.append(made)
        for name, key in ((federation.name, made.key), (federation.honest().name, made.honest().key)):
            if name in lines:
                found[key] = result_of(lines[name])
    return rows_of(cells, found, LIMITS)
