"""The targets of the comparison with TrojanZoo; from results/ alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.results import Target, judge

PATH = Path(__file__).resolve().parent / "results" / "oracle.json"
METHODS = ("neural-cleanse", "tabor", "deep-inspect")
MODELS = 2
LEAST = 5.0


def load(path: Path = PATH) -> dict[str, list[dict[str, Any]]]:
    """The results by method; empty if there are none."""
    found: dict[str, list[dict[str, Any]]] = (
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    )
    return found


def targets(path: Path = PATH) -> list[Target]:
    """For each method the smallest ratio of times, and how the norms of the two rank the classes."""
    results = load(path)
    return [
        made(method, results.get(method, []))
        for method in METHODS
        for made in (_of_time, _of_verdicts, _of_ranks)
    ]


def _of_time(method: str, rows: list[dict[str, Any]]) -> Target:
    ratios = [row["ratio"] for row in rows]
    return Target(
        "rivals",
        f"{method}: CPU time of TrojanZoo's over fedmend's",
        f"at least {LEAST:g} times",
        f"{min(ratios):.1f} to {max(ratios):.1f} times" if ratios else "not measured yet",
        len(rows),
        MODELS,
        judge(bool(ratios) and min(ratios) >= LEAST, len(rows), MODELS),
    )


def _of_verdicts(method: str, rows: list[dict[str, Any]]) -> Target:
    same = sum(row["fedmend"]["verdict"] == row["trojanzoo"]["verdict"] for row in rows)
    return Target(
        "rivals",
        f"{method}: the verdict of TrojanZoo's",
        "the same",
        f"{same} of {len(rows)}",
        len(rows),
        MODELS,
        judge(same == len(rows), len(rows), MODELS),
    )


def _of_ranks(method: str, rows: list[dict[str, Any]]) -> Target:
    ranks = ", ".join(f"{row['spearman']:.2f}" for row in rows)
    return Target(
        "rivals",
        f"{method}: rank correlation of the classes' norms with TrojanZoo's",
        "–",
        ranks or "not measured yet",
        len(rows),
        MODELS,
        "no target" if rows else "not run",
    )
