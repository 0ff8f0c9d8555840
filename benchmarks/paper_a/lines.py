"""The lines of results/, and what they say of groups of models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.stats import binomtest

RESULTS = Path(__file__).parent / "results"
PAPER, MEAN, OURS = "contrastive-paper", "mean-reading", "fedmend"
KINDS = ("sba", "dba", "clean")
PLANNED = 30
NONE = "–"

Line = dict[str, Any]


def load(scale: str, results: Path = RESULTS) -> list[Line]:
    """A scale's lines; empty without the file."""
    path = results / f"{scale}.jsonl"
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )


def of(
    lines: Iterable[Line], method: str, *, kind: str | None = None, study: str | None = None
) -> list[Line]:
    """The lines of a method, judged with the trunk's last model as the reference."""
    return [
        line
        for line in lines
        if line["method"] == method
        and line["level"] is None
        and kind in (None, line["kind"])
        and study in (None, line["study"])
    ]


def found(lines: Iterable[Line]) -> int:
    """How many are called backdoored."""
    return sum(line["verdict"] == "backdoored" for line in lines)


def named(lines: Iterable[Line]) -> int:
    """How many are called backdoored, with the planted target class among those named."""
    return sum(line["verdict"] == "backdoored" and line["target"] in line["found"] for line in lines)


def asr_after(line: Line) -> float:
    """The ASR, in percent, of what is left after the repair: the suspect's where nothing was released."""
    repair = line.get("repair")
    return 100 * float(repair["asr"] if repair and repair["released"] else line["asr"])


def accuracy_after(line: Line) -> float | None:
    """The accuracy, in percent, after the repair; None where nothing was released."""
    repair = line.get("repair")
    return 100 * float(repair["accuracy"]) if repair and repair["released"] else None


def rate(count: int, n: int) -> str:
    """``count`` of ``n`` with the exact 95 % interval of the rate behind it (Clopper and Pearson), in percent."""
    if not n:
        return NONE
    interval = binomtest(count, n).proportion_ci(0.95, "exact")
    return f"{count}/{n} ({100 * interval.low:.0f} to {100 * interval.high:.0f} %)"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and standard deviation."""
    if not values:
        return NONE
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


def worst(values: Sequence[float]) -> str:
    """Mean, standard deviation and maximum."""
    return f"{spread(values)}, max {max(values):.2f}" if values else NONE


def calibrated(clean: Sequence[Line]) -> tuple[float, float]:
    """Thresholds of MSE and REASR above those of all of these clean models."""
    measures = [line["measures"] for line in clean]
    return max(each["mse"] for each in measures), max(each["reasr"] for each in measures)


def above(lines: Iterable[Line], mse: float, reasr: float) -> int:
    """How many exceed both thresholds."""
    return sum(line["measures"]["mse"] > mse and line["measures"]["reasr"] > reasr for line in lines)
