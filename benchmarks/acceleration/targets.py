"""The target of the ablation: each part gains a tenth or more on at least one model; from results/ alone."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
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
    """A line for each part: its gain on the model where it gains most, the mean of that model's precisions."""
    medians: dict[str, dict[str, list[float]]] = {part: {} for part in PARTS}
    for models in load(path).values():
        for model, row in models.items():
            for part in PARTS:
                if part in row:
                    medians[part].setdefault(model, []).append(row[part]["median"])
    return [_of_part(part, [(name, mean(each)) for name, each in medians[part].items()]) for part in PARTS]


def _of_part(part: str, gains: list[tuple[str, float]]) -> Target:
    name, largest = max(gains, key=lambda each: each[1], default=("", 0.0))
    return Target(
        "acceleration",
        f"{part}: time of the passes without it",
        f"at least {LEAST} times on some model",
        f"{largest:.2f} times ({name})" if gains else "not measured yet",
        len(gains),
        len(gains),
        judge(largest >= LEAST, len(gains), len(gains)),
    )
