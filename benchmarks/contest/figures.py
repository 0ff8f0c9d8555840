"""Draw heat maps of the largest ASR of a released model from results/ alone, into figures/.

python benchmarks/contest/figures.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from benchmarks.contest.federations import ATTACKS, DATASETS, DEFENCES, PARTITIONS, RULES, federations  # noqa: E402
from benchmarks.contest.lines import LIMITS, load, rows  # noqa: E402
from benchmarks.contest.targets import asr_of  # noqa: E402

from fedmend.comparison import Row  # noqa: E402

SHARE = "20%"


def heat_map(found: Sequence[Row]) -> Figure | None:
    """A panel for each defence: rules down, attacks across; bold above the limit, empty where nothing has run."""
    shown = [each for each in DEFENCES if any(row.choices["defence"] == each for row in found)]
    if not shown:
        return None
    figure = Figure(
        figsize=(1.5 + 0.55 * len(ATTACKS) * len(shown), 1.6 + 0.32 * len(RULES)), layout="constrained"
    )
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for panel, defence in zip(panels, shown, strict=True):
        rates = [[float("nan")] * len(ATTACKS) for _ in RULES]
        for row in found:
            if row.choices["defence"] == defence:
                down, across = RULES.index(row.choices["rule"]), list(ATTACKS).index(row.choices["attack"])
                rates[down][across] = asr_of(row)
                weight = "bold" if asr_of(row) > LIMITS.released_asr else "normal"
                colour = "white" if asr_of(row) > 0.6 else "black"
                panel.text(
                    across,
                    down,
                    f"{100 * asr_of(row):.0f}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    weight=weight,
                    color=colour,
                )
        panel.imshow(rates, cmap="Reds", vmin=0, vmax=1, aspect="auto")
        panel.set_title(defence, fontsize=9)
        panel.set_xticks(range(len(ATTACKS)), list(ATTACKS), rotation=60, ha="right", fontsize=7)
        panel.set_yticks(range(len(RULES)), RULES, fontsize=7)
    figure.suptitle("Largest ASR of a released model, %", fontsize=9)
    return figure


def main() -> None:
    mpl.rcParams["svg.hashsalt"] = "fedmend"
    (HERE / "figures").mkdir(exist_ok=True)
    found = rows(federations(), load())
    for dataset in DATASETS:
        for partition in PARTITIONS:
            here = [
                row
                for row in found
                if (row.choices["dataset"], row.choices["partition"], row.choices["attackers"])
                == (dataset, partition, SHARE)
            ]
            if figure := heat_map(here):
                figure.savefig(HERE / "figures" / f"{dataset}-{partition}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
