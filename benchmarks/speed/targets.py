"""The targets of the speed benchmark, from results/ alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import Target, judge

RESULTS = Path(__file__).parent / "results"
PLAIN = "flower, plain PyTorch loop"
ENGINE_RATIO = 3
STARTUP_SECONDS, STARTUP_PAIRS = 1.0, 10
BUSY_RATIO, BUSY_TURNS = 2, 5
LARGE = {"resnet50": "ResNet-50", "vit-b-16": "ViT-B/16"}
LARGE_MINUTES, LARGE_GIB = 10, 6

Turn = dict[str, dict[str, Any]]


def load(name: str, results: Path = RESULTS) -> dict[str, Any]:
    """A results file; empty if it isn't there."""
    path = results / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def targets(results: Path = RESULTS) -> list[Target]:
    """A line each for start-up, a busy machine, networks of ImageNet's size and the simulator."""
    return [
        of_startup(load("startup", results)),
        of_threads(load("threads", results)),
        of_large(load("large", results)),
        of_engines(load("engines", results)),
    ]


def of_startup(file: dict[str, Any]) -> Target:
    """A scan of an MNIST model from the shell, less importing torch and less the time that the report gives."""
    told = "not measured yet"
    if file:
        told = f"median {file['extra_seconds']['median']:.2f} s"
    n = file.get("n", 0)
    return Target(
        "speed",
        "mnist, start-up of a scan beyond importing torch",
        f"at most {STARTUP_SECONDS:.1f} s",
        told,
        n,
        STARTUP_PAIRS,
        judge(n > 0 and file["extra_seconds"]["median"] <= STARTUP_SECONDS, n, STARTUP_PAIRS),
    )


def of_threads(file: dict[str, Any]) -> Target:
    """A scan's time beside one busy process, as a multiple of its time alone; with a thread a core, for comparison."""
    told, n = "not measured yet", file.get("n", 0)
    if file:
        told = f"median {file['ratios']['chosen']:.1f} times (with a thread a core {file['ratios']['one a core']:.1f})"
    return Target(
        "speed",
        "mnist, a scan beside one busy process",
        f"at most {BUSY_RATIO} times as long",
        told,
        n,
        BUSY_TURNS,
        judge(n > 0 and file["ratios"]["chosen"] <= BUSY_RATIO, n, BUSY_TURNS),
    )


def of_large(file: dict[str, Any]) -> Target:
    """Scans of networks of ImageNet's size, on two threads."""
    holds = all(
        line["seconds"] <= 60 * LARGE_MINUTES and line["peak_gib"] <= LARGE_GIB for line in file.values()
    )
    told = (
        f"{LARGE[name]} {line['seconds']:.0f} s, {line['peak_gib']:.1f} GiB" for name, line in file.items()
    )
    return Target(
        "speed",
        "a scan at 224x224 with 1,000 classes, two threads",
        f"at most {LARGE_MINUTES} minutes and {LARGE_GIB} GiB",
        "; ".join(told) or "not measured yet",
        len(file),
        len(LARGE),
        judge(holds, len(file), len(LARGE)),
    )


def of_engines(file: dict[str, Any]) -> Target:
    """Samples per second of the simulator's rounds against Flower's engine, median over the repetitions.

    Judged beside Flower with the same training function; with a plain loop, which is slower by itself, for comparison.
    """
    found = {
        name: [median(engine_ratios(file[name]["turns"], other)) for other in ("flower", PLAIN)]
        for name in file
        if "turns" in file[name]
    }
    return Target(
        "speed",
        "simulator against Flower's engine",
        f"at least {ENGINE_RATIO} times the samples per second",
        ", ".join(
            f"{name} {same:.2f} times (a plain loop's {plain:.2f})" for name, (same, plain) in found.items()
        )
        or "not measured yet",
        len(found),
        max(1, len(found)),
        judge(all(same >= ENGINE_RATIO for same, _ in found.values()), min(len(found), 1), 1),
    )


def engine_ratios(turns: Sequence[Turn], other: str) -> list[float]:
    """How many times as fast as another engine's the simulator's rounds were, turn by turn."""
    key = "samples_per_second_of_rounds"
    return [turn["fedmend"][key] / turn[other][key] for turn in turns]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The exponent of the power law that fits best: least squares of the logarithms."""
    pairs = [(math.log(x), math.log(y)) for x, y in points]
    middle = [sum(values) / len(pairs) for values in zip(*pairs, strict=True)]
    above = sum((x - middle[0]) * (y - middle[1]) for x, y in pairs)
    return above / sum((x - middle[0]) ** 2 for x, _ in pairs)
