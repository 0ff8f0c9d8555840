"""Draw the paper's Figures 3 to 6 from results/curves.json alone, into figures/.

    python benchmarks/pruning/figures.py

Blue is clean accuracy, red attack success rate, as in the paper.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent
BLUE, RED = "#1f5fa8", "#c0392b"

Measured = dict[str, Any]


def along(axes: Axes, measured: Measured) -> None:
    """Figure 4: ranking vote solid, majority vote dashed."""
    for name, style in (("ranking, mean", "-"), ("majority", "--")):
        curve = measured[f"{name}, 0 liars"]
        lines(axes, curve["points"], curve, style, name.removesuffix(", mean"))
    axes.set_xlabel("channels pruned")


def by_delta(axes: Axes, measured: list[dict[str, float]]) -> None:
    """Figure 5: from the largest delta, which changes least, to the smallest; the first is without any."""
    names = ["none" if not row["delta"] else f"{row['delta']:g}" for row in measured]
    curve = {key: [row[key] for row in measured] for key in ("accuracy", "asr")}
    lines(axes, range(len(names)), curve, "-", "")
    axes.set_xticks(range(len(names)), names, fontsize=7)
    axes.set_xlabel("delta")


def by_round(axes: Axes, measured: Measured) -> None:
    """Figures 3 and 6."""
    lines(axes, measured["round"], measured, "-", "")
    axes.set_xlabel("round")


def lines(axes: Axes, across: Any, curve: Measured, style: str, name: str) -> None:
    """Accuracy and ASR, in percent."""
    for key, color, told in (("accuracy", BLUE, "clean accuracy"), ("asr", RED, "attack success rate")):
        label = f"{told}, {name} vote" if name else told
        axes.plot(across, [100 * value for value in curve[key]], style, color=color, label=label)
    axes.set_ylim(-3, 103)


FIGURES: dict[str, tuple[str, Callable[[Axes, Any], None], Callable[[str], str]]] = {
    "labels": ("figure-3", by_round, lambda name: f"{name.split('/')[0].split('-')[-1]} labels a client"),
    "along": ("figure-4", along, lambda name: name.split("-2-")[0]),
    "delta": ("figure-5", by_delta, lambda name: name.split("-2-")[0]),
    "penalties": ("figure-6", by_round, lambda name: f"lambda {name.split('-l2-')[1]}"),
}


def draw(key: str, curves: dict[str, dict[str, Any]], folder: Path) -> Path:
    """One figure, a panel a model."""
    file, panel, title = FIGURES[key]
    figure = Figure(figsize=(3.4 * max(2, len(curves)), 3.0), layout="constrained")
    for axes, (name, each) in zip(
        figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True
    ):
        panel(axes, each["measured"])
        axes.set_title(title(name), fontsize=9)
        axes.set_ylabel("%")
        axes.grid(alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    folder.mkdir(exist_ok=True)
    path = folder / f"{file}.svg"
    with mpl.rc_context({"svg.hashsalt": "fedmend"}):
        figure.savefig(path, metadata={"Date": None})
    return path


def main() -> None:
    file = json.loads((HERE / "results" / "curves.json").read_text(encoding="utf-8"))
    for key in FIGURES:
        if key in file:
            print(draw(key, file[key], HERE / "figures"))


if __name__ == "__main__":
    main()
