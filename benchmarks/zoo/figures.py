"""Draw the ROC curves of the lead, and what the limit for both models costs, from results/ alone, into figures/.

python benchmarks/zoo/figures.py
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from benchmarks.zoo.scans import (  # noqa: E402
    DEFAULT,
    EFFORT,
    JOINED,
    LARGE_FAINT,
    SMALL_PATCHES,
    Scan,
    is_backdoored,
    lead,
    load,
    path_of,
)

from fedmend.detection import DifferenceLimits  # noqa: E402

GROUPS = {
    "patches up to 8x8, atoms": SMALL_PATCHES,
    "12x12, blended, sinusoids": LARGE_FAINT,
    "one-to-one": ("one-to-one",),
    "two at once": ("two",),
    "all-to-all": ("all-to-all",),
}
COLOURS = ("#0b6e75", "#c8553d", "#6b4e9b", "#b08d1e", "#8a8a8a")


def curve(positive: Sequence[float], negative: Sequence[float]) -> list[tuple[float, float]]:
    """The ROC curve of a score: false-positive and detection rate at each threshold, from (0, 0) to (1, 1)."""
    thresholds = sorted({*positive, *negative}, reverse=True)
    points = [
        (
            sum(value >= limit for value in negative) / len(negative),
            sum(value >= limit for value in positive) / len(positive),
        )
        for limit in thresholds
    ]
    return [(0.0, 0.0), *points]


def area(points: Sequence[tuple[float, float]]) -> float:
    """The area under a curve, by trapezia."""
    return sum((right - left) * (low + high) / 2 for (left, low), (right, high) in pairwise(points))


def roc(scans: Sequence[Scan]) -> Figure:
    """A curve for each group of families against all honest pairs; the false-positive rate's scale is symmetric-log."""
    figure = Figure(figsize=(5.5, 4.2), layout="constrained")
    panel = figure.subplots()
    negative = [lead(scan) for scan in scans if not is_backdoored(scan)]
    for (name, families), colour in zip(GROUPS.items(), COLOURS, strict=True):
        positive = [lead(scan) for scan in scans if is_backdoored(scan) and scan["family"] in families]
        if positive and negative:
            points = curve(positive, negative)
            label = f"{name}: area {area(points):.3f} (n {len(positive)})"
            panel.step(*zip(*points, strict=True), where="post", color=colour, label=label)
    panel.set_xscale("symlog", linthresh=0.01)
    panel.set(
        xlim=(0, 1),
        ylim=(0, 1.02),
        xlabel=f"false-positive rate (n {len(negative)})",
        ylabel="detection rate",
    )
    panel.set_xticks([0, 0.01, 0.1, 1], ["0", "1 %", "10 %", "100 %"])
    panel.set_yticks([0, 0.5, 0.8, 0.9, 1], ["0", "50 %", "80 %", "90 %", "100 %"])
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7, loc="lower right")
    return figure


def joined(scan: Scan) -> float:
    """The largest lead of what works in both models; 0 if that wasn't searched for."""
    return max((value for key, value in scan["measures"].items() if key.endswith(JOINED)), default=0.0)


def in_both(both: Sequence[Scan], honest: Sequence[Scan]) -> Figure:
    """Backdoors in both models that a limit notices, against the honest pairs that it leaves inconclusive.

    Those called backdoored, by a difference between the models, count as noticed at every limit.
    """
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    panel = figure.subplots()
    values = [math.inf if scan["verdict"] == "backdoored" else joined(scan) for scan in both]
    others = [joined(scan) for scan in honest]
    panel.step(*zip(*curve(values, others), strict=True), where="post", color=COLOURS[0])
    limit = DifferenceLimits().together
    here = [sum(value >= limit for value in each) / len(each) for each in (others, values)]
    panel.plot(*here, "o", color=COLOURS[1])
    panel.annotate(f"limit {limit:g}", here, (6, -12), textcoords="offset points", fontsize=8)
    panel.set(
        xlim=(0, 1),
        ylim=(0, 1.02),
        xlabel=f"honest pairs left inconclusive by it (n {len(honest)})",
        ylabel=f"backdoors in both noticed (n {len(both)})",
    )
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    panel.grid(alpha=0.3)
    return figure


def main() -> None:
    mpl.rcParams["svg.hashsalt"] = "fedmend"
    (HERE / "figures").mkdir(exist_ok=True)
    for split in ("dev", "test"):
        scans = load(path_of(split, DEFAULT, EFFORT), seed=0)
        if scans:
            roc(scans).savefig(HERE / "figures" / f"roc-{split}.svg", metadata={"Date": None})
    honest = [scan for scan in load(path_of("test", DEFAULT, EFFORT), seed=0) if not is_backdoored(scan)]
    both = load(path_of("test", DEFAULT, EFFORT, both=True), seed=0)
    if both and honest:
        in_both(both, honest).savefig(HERE / "figures" / "in-both-test.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
