"""The targets of the speed benchmark, from results/ alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import Target, judge, proportion

RESULTS = Path(__file__).parent / "results"
RATIOS = {"mnist": 50, "cifar10": 30, "gtsrb": 300}
MODELS = {"backdoored": "backdoored", "clean": "clean"}
PLAIN = "flower, plain PyTorch loop"
ENGINE_RATIO = 3
STARTUP_SECONDS, STARTUP_PAIRS = 1.0, 10
BUSY_RATIO, BUSY_TURNS = 2, 5

Turn = dict[str, dict[str, Any]]


def load(name: str, results: Path = RESULTS) -> dict[str, Any]:
    """A results file; empty if it isn't there."""
    path = results / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def ratios(turns: Sequence[Turn]) -> list[float]:
    """How many times longer Neural Cleanse took, turn by turn."""
    return [turn["neural-cleanse"]["seconds"] / turn["fedmend"]["scan_seconds"] for turn in turns]


def targets(results: Path = RESULTS) -> list[Target]:
    """A line for each data set's ratio and verdicts, and one each for start-up, a busy machine and the simulator."""
    file = load("compare", results)
    lines = [line for dataset in RATIOS for line in of_dataset(dataset, file.get(dataset, {}))]
    alone = of_startup(load("startup", results)), of_threads(load("threads", results))
    return [*lines, *alone, of_engines(load("engines", results))]


def of_startup(file: dict[str, Any]) -> Target:
    """From the shell to a verdict on MNIST, less importing torch: by the clock, which is judged, and by processors."""
    told = "not measured yet"
    if file:
        clock, busy = (file[key]["median"] for key in ("extra_seconds", "extra_processor_seconds"))
        told = f"median {clock:.2f} s; of processors {busy:.2f} s"
    n = file.get("n", 0)
    return Target(
        "speed",
        "mnist, start-up and scan beyond importing torch",
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


def of_dataset(dataset: str, found: dict[str, Any]) -> list[Target]:
    """Ratio and verdicts."""
    models = {name: found[name] for name in MODELS if found.get(name)}
    turns = [(MODELS[name], turn) for name, each in models.items() for turn in each]
    right = sum(turn["fedmend"]["verdict"] == truth for truth, turn in turns)
    told = ", ".join(f"{name} {median(ratios(each)):.0f} times" for name, each in models.items())
    holds = bool(models) and all(median(ratios(each)) >= RATIOS[dataset] for each in models.values())
    extrapolated = any(not turn["neural-cleanse"]["complete"] for _, turn in turns)
    return [
        Target(
            "speed",
            f"{dataset}, time per scan against Neural Cleanse",
            f"at least {RATIOS[dataset]} times faster",
            (told or "not measured yet") + (" (extrapolated)" if extrapolated else ""),
            len(models),
            len(MODELS),
            judge(holds, len(models), len(MODELS)),
        ),
        Target(
            "speed",
            f"{dataset}, verdicts of these scans",
            "all right",
            proportion(right, len(turns)),
            len(models),
            len(MODELS),
            judge(right == len(turns), len(models), len(MODELS)),
        ),
    ]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The exponent of the power law that fits best: least squares of the logarithms."""
    pairs = [(math.log(x), math.log(y)) for x, y in points]
    middle = [sum(values) / len(pairs) for values in zip(*pairs, strict=True)]
    above = sum((x - middle[0]) * (y - middle[1]) for x, y in pairs)
    return above / sum((x - middle[0]) ** 2 for x, _ in pairs)
