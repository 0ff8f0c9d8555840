"""The generated section of this benchmark's README: a row a model and precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.acceleration.targets import PARTS, PATH, load
from benchmarks.results import markdown


def tables(path: Path = PATH) -> str:
    """Time without each part over time with all: median (quartiles; ratio of the least times)."""
    columns = (*PARTS, "all")
    rows = [("Model", "precision", "rounds", *columns)]
    rows += [
        (model, precision, str(row["rounds"]), *(_cell(row[part]) if part in row else "" for part in columns))
        for precision, models in load(path).items()
        for model, row in models.items()
    ]
    return markdown(rows)


def _cell(ratio: dict[str, Any]) -> str:
    low, high = ratio["quartiles"]
    return f"{ratio['median']:.2f} ({low:.2f} to {high:.2f}; {ratio['least_times']:.2f})"
