"""The target of the aggregation rules' memory; from results/ alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.results import Target, judge

PATH = Path(__file__).resolve().parent / "results" / "memory.json"
RULES = (
    "running mean",
    "running mean, clipped",
    "fedavg",
    "uniform",
    "trimmed-mean",
    "fedavgm",
    "median",
    "krum",
    "multi-krum",
    "bulyan",
    "rfa",
    "norm-clipping",
    "fltrust",
    "flame",
    "spectral",
)
LARGEST = 0.1
"""Of the memory of all updates."""


def load(path: Path = PATH) -> dict[str, dict[str, Any]]:
    """The results by rule; empty if there are none."""
    found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def targets(path: Path = PATH) -> list[Target]:
    """One line: the largest memory of any rule, as a fraction of that of all updates."""
    results = load(path)
    fractions = {name: row["peak_mib"] / row["all_updates_mib"] for name, row in results.items()}
    worst = max(fractions, key=fractions.__getitem__, default="")
    return [
        Target(
            "aggregation",
            "memory of a rule beside 1,000 updates",
            f"at most {LARGEST:.0%} of the updates'",
            f"at most {fractions[worst]:.1%} ({worst})" if results else "not measured yet",
            len(results),
            len(RULES),
            judge(bool(results) and fractions[worst] <= LARGEST, len(results), len(RULES)),
        )
    ]
