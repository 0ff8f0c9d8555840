"""The target of the comparison of repairs, from results/ alone."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.results import Target, judge

RESULTS = Path(__file__).resolve().parent / "results"
OURS = "unlearn"
MODELS = 6
METHODS = 10
MOST_LOST = 0.02

Line = dict[str, Any]


def load(results: Path = RESULTS, split: str = "dev") -> dict[str, list[Line]]:
    """The lines of each method; empty if there are none."""
    path = results / f"{split}.jsonl"
    found: dict[str, list[Line]] = defaultdict(list)
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        line = json.loads(text)
        found[line["method"]].append(line)
    return dict(found)


def left(line: Line) -> float:
    """The ASR of the candidate, or of the suspect where nothing was tried."""
    rates = line["asr"].get("candidate", line["asr"]["suspect"])
    return float(max(rates))


def lost(line: Line) -> float:
    """How much accuracy the candidate lost, as a fraction."""
    accuracies = line["accuracy"]
    return float(accuracies["suspect"] - accuracies.get("candidate", accuracies["suspect"]))


def shared(lines: dict[str, list[Line]]) -> dict[str, list[Line]]:
    """Of each method, the lines of those models that every method has a line of."""
    models = [{(line["cell"], line["name"]) for line in each} for each in lines.values()]
    common = set.intersection(*models) if models else set()
    found = {
        name: [line for line in each if (line["cell"], line["name"]) in common]
        for name, each in lines.items()
    }
    return {name: each for name, each in found.items() if each}


def targets(results: Path = RESULTS) -> list[Target]:
    """fedmend's unlearning against the best of the others that keep the accuracy, on the models that all repaired."""
    lines = shared(load(results))
    means = {
        name: mean(map(left, each)) for name, each in lines.items() if mean(map(lost, each)) <= MOST_LOST
    }
    ours, rivals = means.pop(OURS, None), means
    count = len(lines.get(OURS, []))
    best = min(rivals, key=lambda name: rivals[name], default=None)
    told, holds = "not measured yet", False
    if ours is not None and best is not None:
        told = f"{ours:.1%}, {best} {rivals[best]:.1%}"
        holds = ours <= rivals[best]
    return [
        Target(
            "rival_repairs",
            "mean ASR after the default repair, beside the best rival's that loses at most 2 points",
            "no higher",
            told,
            count if ours is not None else 0,
            MODELS,
            judge(holds, count if ours is not None else 0, MODELS),
        )
    ]
