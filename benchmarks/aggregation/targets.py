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
LARGEST_MIB, UPDATES = 256, 2
"""What a rule may take: a block and its copies, the distances between clients, and vectors as long as an update."""


def load(path: Path = PATH) -> dict[str, dict[str, Any]]:
    """The results by rule; empty if there are none."""
    found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def targets(path: Path = PATH) -> list[Target]:
    """One line: the largest memory of any rule, less that of two updates."""
    results = load(path)
    beyond = {name: row["peak_mib"] - UPDATES * row["update_mib"] for name, row in results.items()}
    worst = max(beyond, key=beyond.__getitem__, default="")
    return [
        Target(
            "aggregation",
            "memory of a rule beside 1,000 updates",
            f"at most {LARGEST_MIB} MiB and {UPDATES} updates, for any number of parameters",
            f"at most {beyond[worst]:.0f} MiB ({worst})" if results else "not measured yet",
            len(results),
            len(RULES),
            judge(bool(results) and beyond[worst] <= LARGEST_MIB, len(results), len(RULES)),
        )
    ]
