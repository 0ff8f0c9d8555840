"""Whether each attack reaches its effect; from results/ alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.attacks.cells import CELLS
from benchmarks.attacks.setting import AFTER, LASTING, MOST_LOST, SEEDS, Cell
from benchmarks.results import Target, judge

PATH = Path(__file__).resolve().parent / "results" / "effects.json"

Row = dict[str, Any]
"""A run: its seed, and its accuracy and ASR by round; the first are those of the pre-trained model."""


def load(path: Path = PATH) -> dict[str, list[Row]]:
    """The runs by cell; empty if there are none."""
    found: dict[str, list[Row]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def effect(cell: Cell, row: Row) -> float:
    """The ASR after the last attacked round, or by how much the accuracy is below the honest federation's then."""
    value: float = row["asr"][cell.rounds]
    if cell.effect == "accuracy lost":
        value = row["honest_accuracy"][cell.rounds] - row["accuracy"][cell.rounds]
    return value


def accuracies(cell: Cell, row: Row) -> tuple[float, float]:
    """The pre-trained model's accuracy, or the honest federation's, and that after the last attacked round."""
    before = row["accuracy"][0] if cell.effect == "asr" else row["honest_accuracy"][cell.rounds]
    return before, row["accuracy"][cell.rounds]


def reached(cell: Cell, row: Row) -> bool:
    """Whether a run has its effect; a backdoor must also keep the accuracy."""
    before, accuracy = accuracies(cell, row)
    kept = cell.effect == "accuracy lost" or before - accuracy <= MOST_LOST
    return kept and effect(cell, row) >= cell.least


def targets(path: Path = PATH) -> list[Target]:
    """A line for each attack, and one for each that should outlast plain poisoning."""
    results = load(path)
    lines = [_target(name, cell, results.get(name, [])) for name, cell in CELLS.items()]
    return lines + [_lasting(name, other, results) for name, other in LASTING.items()]


def _target(name: str, cell: Cell, rows: list[Row]) -> Target:
    aim = f"at least {cell.least:.0%}"
    if cell.effect == "asr":
        aim += f", accuracy at most {100 * MOST_LOST:.0f} points lower"
    effects = ", ".join(f"{effect(cell, row):.1%}" for row in rows)
    lowest = min((accuracies(cell, row)[1] for row in rows), default=0)
    told = f"{effects}; accuracy {lowest:.1%} or more" if rows else "not measured yet"
    holds = all(reached(cell, row) for row in rows)
    return Target(
        "attacks",
        f"{name}, {cell.effect}",
        aim,
        told,
        len(rows),
        len(SEEDS),
        judge(holds, len(rows), len(SEEDS)),
    )


def _lasting(name: str, beside: str, results: dict[str, list[Row]]) -> Target:
    """Of runs with the same seed: is the ASR after honest rounds above that of plain poisoning?"""
    plain = {row["seed"]: row["asr"][-1] for row in results.get(beside, [])}
    pairs = [(row["asr"][-1], plain[row["seed"]]) for row in results.get(name, []) if row["seed"] in plain]
    told = ", ".join(f"{own:.1%} and {other:.1%}" for own, other in pairs) or "not measured yet"
    return Target(
        "attacks",
        f"{name}, ASR after {AFTER} honest rounds",
        "above plain poisoning's",
        told,
        len(pairs),
        len(SEEDS),
        judge(all(own > other for own, other in pairs), len(pairs), len(SEEDS)),
    )
