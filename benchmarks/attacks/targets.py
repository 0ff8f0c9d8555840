"""Whether each attack reaches its effect; from results/ alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.attacks.cells import CELLS, Cell
from benchmarks.results import Target, judge

PATH = Path(__file__).resolve().parent / "results" / "effects.json"


def load(path: Path = PATH) -> dict[str, dict[str, Any]]:
    """The results by cell; empty if there are none."""
    found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def effect(cell: Cell, row: dict[str, Any]) -> float:
    """The ASR at the end, or by how much the accuracy is below the honest federation's."""
    value: float = row["asr"] if cell.effect == "asr" else row["compared_accuracy"] - row["accuracy"]
    return value


def targets(path: Path = PATH) -> list[Target]:
    """A line for each attack."""
    results = load(path)
    return [_target(name, cell, results.get(name)) for name, cell in CELLS.items()]


def _target(name: str, cell: Cell, row: dict[str, Any] | None) -> Target:
    n = int(row is not None)
    told = "not measured yet" if row is None else f"{effect(cell, row):.1%}, accuracy {row['accuracy']:.1%}"
    reached = row is not None and effect(cell, row) >= cell.least
    return Target(
        "attacks", f"{name}, {cell.effect}", f"at least {cell.least:.0%}", told, n, 1, judge(reached, n, 1)
    )
