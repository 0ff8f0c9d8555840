"""The targets of the comparison with other libraries; from results/ alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.results import Target, judge

PATH = Path(__file__).resolve().parent / "results" / "oracle.json"
METHODS = {
    "neural-cleanse": "rank correlation of the masks' norms",
    "tabor": "rank correlation of the masks' norms",
    "deep-inspect": "rank correlation of the triggers' norms",
    "abs": "agreement",
    "neuron-inspect": "rank correlation of the classes' features",
    "activation-clustering": "Jaccard index of the images called poisoned",
}
"""How the two are compared, besides verdict and time."""
MODELS = 4
LEAST = 5.0


def load(path: Path = PATH) -> dict[str, list[dict[str, Any]]]:
    """The results by method; empty if there are none."""
    found: dict[str, list[dict[str, Any]]] = (
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    )
    return found


def targets(path: Path = PATH) -> list[Target]:
    """For each method the smallest ratio of times, the verdicts, and how the two agree otherwise."""
    results = load(path)
    return [
        made(method, results.get(method, []))
        for method in METHODS
        for made in (_of_time, _of_verdicts, _of_agreement)
    ]


def _of_time(method: str, rows: list[dict[str, Any]]) -> Target:
    ratios = [row["ratio"] for row in rows]
    return Target(
        "rivals",
        f"{method}: CPU time of the other library's over fedmend's",
        f"at least {LEAST:g} times",
        f"{min(ratios):.1f} to {max(ratios):.1f} times" if ratios else "not measured yet",
        len(rows),
        MODELS,
        judge(bool(ratios) and min(ratios) >= LEAST, len(rows), MODELS),
    )


def _of_verdicts(method: str, rows: list[dict[str, Any]]) -> Target:
    same = sum(row["fedmend"]["verdict"] == row["other"]["verdict"] for row in rows)
    return Target(
        "rivals",
        f"{method}: the verdict of the other library's",
        "the same",
        f"{same} of {len(rows)}",
        len(rows),
        MODELS,
        judge(same == len(rows), len(rows), MODELS),
    )


def _of_agreement(method: str, rows: list[dict[str, Any]]) -> Target:
    told = ", ".join(said(row["agreement"]) for row in rows)
    return Target(
        "rivals",
        f"{method}: {METHODS[method]}",
        "–",
        told or "not measured yet",
        len(rows),
        MODELS,
        "no target" if rows else "not run",
    )


def said(agreement: float | None) -> str:
    """With two digits; a dash where there is nothing to compare."""
    return "–" if agreement is None else f"{agreement:.2f}"
