"""Charts of a comparison's attack success rate (ASR) by round: one for each group, a line for each variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fedmend.comparison import Row
from fedmend.pages import svg
from fedmend.pages.charts import clamp, percent_grid, steps
from fedmend.pages.words import percent

_HEIGHT = 180
STYLES = 6
"""How many lines the style sheet tells apart."""
_OPEN = 2


@dataclass(frozen=True)
class CurveChart:
    """One group's chart; ``shown``: it isn't folded."""

    title: str
    chart: Markup
    shown: bool


@dataclass(frozen=True)
class Curves:
    """``legend`` holds each variant with its style's number."""

    legend: list[tuple[str, int]]
    charts: list[CurveChart]


def curves_of(rows: Sequence[Row], axis: str | None) -> Curves:
    """A chart for each combination of the other axes' variants, in the order of the rows; none in honest federations.

    Args:
        rows: that have run.
        axis: its variants are the lines; None: each chart has one.
    """
    variants = list(dict.fromkeys(row.choices[axis] for row in rows)) if axis else [""]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if len(row.curve) > 1:
            title = ", ".join(f"{name} {label}" for name, label in row.choices.items() if name != axis)
            groups.setdefault(title or "All rounds", []).append(row)
    charts = [
        CurveChart(title, _chart(number, title, group, axis, variants), number < _OPEN)
        for number, (title, group) in enumerate(groups.items())
    ]
    legend = [(variant, number % STYLES) for number, variant in enumerate(variants) if variant]
    return Curves(legend if charts else [], charts)


def _chart(number: int, title: str, rows: Sequence[Row], axis: str | None, variants: Sequence[str]) -> Markup:
    first = min(row.curve[0][0] for row in rows)
    last = max(row.curve[-1][0] for row in rows)
    runs, said = [], []
    for row in rows:
        variant = row.choices[axis] if axis else ""
        points = [((at - first) / (last - first), clamp(rate)) for at, rate in row.curve]
        runs.append((f"curve line-{variants.index(variant) % STYLES}", points))
        said.append(f"{variant or 'ASR'}: {percent(row.curve[-1][1])} in round {row.curve[-1][0]}")
    children = [*percent_grid(_HEIGHT), *steps(first, last, _HEIGHT), svg.curves(runs, _HEIGHT)]
    described = f"{'; '.join(said)}. The figures are in the file rounds.csv."
    return svg.picture(f"curves-{number}", f"ASR by round: {title}", described, _HEIGHT, "lines", children)
