"""The target of the ablation: each part gains a tenth or more on at least one model; from results/ alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.results import Target, judge

PATH = Path(__file__).resolve().parent / "results" / "ablation.json"
PARTS = ("folding", "half precision", "packing", "joining")
LEAST = 1.1


def load(path: Path = PATH) -> dict[str, Any]:
    """The results by precision and model; empty if there are none."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def targets(path: Path = PATH) -> list[Target]:
    """A line for each part: its largest median gain."""
    rows = [
        (f"{model}, {precision}", row)
        for precision, models in load(path).items()
        for model, row in models.items()
    ]
    return [
        _of_part(part, [(name, row[part]["median"]) for name, row in rows if part in row]) for part in PARTS
    ]


def _of_part(part: str, medians: list[tuple[str, float]]) -> Target:
    name, largest = max(medians, key=lambda each: each[1], default=("", 0.0))
    return Target(
        "acceleration",
        f"{part}: time of the passes without it",
        f"at least {LEAST} times on some model",
        f"{largest:.2f} times ({name})" if medians else "not measured yet",
        len(medians),
        len(medians),
        judge(largest >= LEAST, len(medians), len(medians)),
    )
