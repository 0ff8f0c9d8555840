"""Draw the growth of a scan's time from results/ alone, into figures/.

python benchmarks/speed/figures.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from benchmarks.speed.targets import load, slope  # noqa: E402

COLOUR = "#0b6e75"


def growth(file: dict[str, Any]) -> Figure:
    """A panel an axis, both scales logarithmic."""
    figure = Figure(figsize=(3 * len(file["axes"]), 3), layout="constrained")
    panels = figure.subplots(1, len(file["axes"]), sharey=True, squeeze=False)[0]
    names = {"classes": "classes", "size": "image side, pixels", "width": "parameters"}
    for panel, (axis, rows) in zip(panels, file["axes"].items(), strict=True):
        points = [(row["parameters" if axis == "width" else axis], row["seconds"]) for row in rows]
        panel.plot(*zip(*points, strict=True), "o-", color=COLOUR)
        panel.set(xscale="log", yscale="log", xlabel=names[axis], title=f"exponent {slope(points):z.2f}")
        panel.set_xticks(
            [x for x, _ in points], [f"{x:,}" if x < 1e5 else f"{x / 1e6:.1f} M" for x, _ in points]
        )
        ticks = [1, 2, 5, 10, 20, 50, 100, 200, 500]
        panel.set_yticks(ticks, [str(each) for each in ticks])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("seconds per scan")
    return figure


def main() -> None:
    mpl.rcParams["svg.hashsalt"] = "fedmend"
    (HERE / "figures").mkdir(exist_ok=True)
    if file := load("growth"):
        growth(file).savefig(HERE / "figures" / "growth.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
