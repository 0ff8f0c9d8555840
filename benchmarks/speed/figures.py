"""Draw time to a verdict and its growth from results/ alone, into figures/.

python benchmarks/speed/figures.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from benchmarks.speed.targets import RATIOS, load, slope  # noqa: E402

OURS, THEIRS = "#0b6e75", "#b9b2a6"
NAMES = {"mnist": "MNIST, ConvNet", "cifar10": "CIFAR-10, narrow ResNet18", "gtsrb": "GTSRB, ResNet-34"}
METHODS = {
    "fedmend": "fedmend",
    "neural-cleanse": "Neural Cleanse",
    "tabor": "TABOR",
    "deep-inspect": "DeepInspect",
}


def verdict(file: dict[str, Any]) -> Figure:
    """A bar for each method and data set, on a logarithmic scale."""
    datasets = [name for name in RATIOS if file.get(name, {}).get("backdoored")]
    figure = Figure(figsize=(8, 1 + 1.3 * len(datasets)), layout="constrained")
    panels = figure.subplots(len(datasets), 1, sharex=True, squeeze=False)[:, 0]
    for panel, dataset in zip(panels, datasets, strict=True):
        found = file[dataset]
        turns = found["backdoored"]
        lines = {
            "fedmend": [turn["fedmend"] | {"seconds": turn["fedmend"]["scan_seconds"]} for turn in turns],
            "neural-cleanse": [turn["neural-cleanse"] for turn in turns],
        } | {name: [found[name]] for name in ("tabor", "deep-inspect") if name in found}
        for row, (name, each) in enumerate(lines.items()):
            seconds = median(line["seconds"] for line in each)
            panel.barh(row, seconds, color=OURS if name == "fedmend" else THEIRS)
            mark = "" if all(line.get("complete", True) for line in each) else " (extrapolated)"
            panel.text(seconds * 1.15, row, f"{told(seconds)}{mark}", va="center", fontsize=8)
        panel.set_yticks(range(len(lines)), [METHODS[name] for name in lines], fontsize=8)
        panel.invert_yaxis()
        panel.set_title(NAMES[dataset], loc="left", fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set(xscale="log", xlabel="time to a verdict", xlim=(0.1, 3e6))
    panels[-1].set_xticks([0.1, 1, 10, 60, 600, 3600, 36000, 360000])
    panels[-1].set_xticklabels(
        ["0.1 s", "1 s", "10 s", "1 min", "10 min", "1 h", "10 h", "100 h"], fontsize=8
    )
    return figure


def told(seconds: float) -> str:
    """A time for a person."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def growth(file: dict[str, Any]) -> Figure:
    """A panel an axis, both scales logarithmic."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    panels = figure.subplots(1, len(file["axes"]), sharey=True)
    names = {"classes": "classes", "size": "image side, pixels", "width": "parameters"}
    for panel, (axis, rows) in zip(panels, file["axes"].items(), strict=True):
        points = [(row["parameters" if axis == "width" else axis], row["seconds"]) for row in rows]
        panel.plot(*zip(*points, strict=True), "o-", color=OURS)
        panel.set(xscale="log", yscale="log", xlabel=names[axis], title=f"exponent {slope(points):z.2f}")
        panel.set_xticks(
            [x for x, _ in points], [f"{x:,}" if x < 1e5 else f"{x / 1e6:.1f} M" for x, _ in points]
        )
        panel.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("seconds a scan")
    return figure


def main() -> None:
    mpl.rcParams["svg.hashsalt"] = "fedmend"
    (HERE / "figures").mkdir(exist_ok=True)
    for name, draw, results in (("verdict", verdict, "compare"), ("growth", growth, "growth")):
        if file := load(results):
            draw(file).savefig(HERE / "figures" / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
