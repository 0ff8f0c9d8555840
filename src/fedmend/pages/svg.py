"""Inline SVG that stays readable at every width.

A chart's ``<svg>`` is its plot area: as wide as the page allows, with a fixed height. Positions across are percentages,
so text and strokes keep their size on a phone. Axis labels overflow into the padding around it. Lines can't be given in
percentages and go into a stretched inner ``<svg>``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

Point = tuple[float, float]


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element; ``class_`` and ``stroke_width`` become class and stroke-width, everything is escaped."""
    parts = [f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items()]
    inner = Markup("").join(children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), Markup("").join(map(Markup, parts)), inner)


def picture(
    key: str, title: str, description: str, height: int, kind: str, children: Iterable[str]
) -> Markup:
    """The outer ``<svg>``, with a title and description for screen readers; ``key`` is unique on the page."""
    return tag(
        "svg",
        tag("title", title, id=f"{key}-title"),
        tag("desc", description, id=f"{key}-desc"),
        *children,
        class_=f"plot {kind}",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
        height=height,
    )


def at(fraction: float) -> str:
    """A position across, from a fraction of the width."""
    return f"{100 * fraction:.3f}%"


def anchor(fraction: float) -> str:
    """The anchor that keeps a label at ``fraction`` of the width inside the chart."""
    return "start" if fraction < 0.12 else "end" if fraction > 0.88 else "middle"


def text(label: str, across: float, down: float, *, kind: str, anchored: str | None = None) -> Markup:
    """A label at a fraction of the width and a height in pixels."""
    return tag(
        "text", label, x=at(across), y=f"{down:g}", class_=kind, text_anchor=anchored or anchor(across)
    )


def vertical(across: float, top: float, bottom: float, kind: str) -> Markup:
    """A line from top to bottom."""
    return tag("line", x1=at(across), x2=at(across), y1=f"{top:g}", y2=f"{bottom:g}", class_=kind)


def horizontal(down: float, kind: str) -> Markup:
    """A line across the whole width."""
    return tag("line", x1="0%", x2="100%", y1=f"{down:g}", y2=f"{down:g}", class_=kind)


def curves(runs: Iterable[tuple[str, Sequence[Point]]], height: int) -> Markup:
    """Lines through points in fractions of width and height, (0, 0) at the bottom left, each with its class."""
    lines = []
    for kind, points in runs:
        place = " ".join(f"{1000 * x:.1f},{1000 * (1 - y):.1f}" for x, y in points)
        lines.append(tag("polyline", points=place, class_=kind, vector_effect="non-scaling-stroke"))
    return tag(
        "svg",
        *lines,
        viewBox="0 0 1000 1000",
        preserveAspectRatio="none",
        width="100%",
        height=height,
        class_="curves",
    )


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round values from at or below ``low`` to at or above ``high``."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]
