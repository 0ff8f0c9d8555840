"""Charts of a finding: a measure against its limit, and the loss of a search."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fedmend.detection.base import Measure, Scale
from fedmend.pages import svg, words

_MAX_POINTS = 400

Ticks = Sequence[tuple[float, str]]


@dataclass(frozen=True)
class _Scale:
    """Maps values to a line from 0 to 1, with ticks."""

    place: Callable[[float], float]
    ticks: Ticks


def bullet(key: str, measure: Measure) -> Markup | None:
    """A measure against its limit in the tone of its reading.

    Args:
        key: unique on the page.
        measure: drawn linearly, or with the scale "log" logarithmically.

    Returns:
        The chart; None if there is nothing to draw: no limit or no value.
    """
    limit, value = measure.limit, measure.value
    if limit is None or math.isnan(value) or not math.isfinite(limit):
        return None
    if measure.scale == "plain" and not math.isfinite(value):
        return None
    if measure.scale == "log" and limit <= 0:
        return None
    scale = _scale(measure.scale, value, limit)
    dot, mark, tone = scale.place(value), scale.place(limit), words.TONES[measure.tone]
    above = measure.suspicious_when == "above"
    start, end = (mark, 1.0) if above else (0.0, mark)
    value_text, limit_text = words.measured(value, measure.scale), words.limit(limit, measure.scale)
    children = [
        svg.tag("rect", x="0%", y=20, width="100%", height=16, rx=3, class_="track"),
        svg.tag("rect", x=svg.at(start), y=20, width=svg.at(end - start), height=16, rx=3, class_="zone"),
        svg.tag("line", x1="0%", x2=svg.at(dot), y1=28, y2=28, class_=f"stem {tone}"),
        svg.vertical(mark, 14, 42, "limit"),
        svg.text(f"limit {limit_text}", mark, 9, kind="limit-label"),
        svg.tag("circle", cx=svg.at(dot), cy=28, r=7, class_=f"dot {tone}"),
    ]
    children += [svg.text(label, across, 58, kind="tick") for across, label in scale.ticks]
    description = (
        f"{value_text}, with the limit at {limit_text}. The shaded, suspicious side is "
        f"{measure.suspicious_when} the limit."
    )
    return svg.picture(key, f"{measure.name} against its limit", description, 62, "bullet", children)


def _scale(kind: Scale, value: float, limit: float) -> _Scale:
    if kind == "log":
        return _logarithmic(value, limit)
    return _straight() if kind == "fraction" else _plain(value, limit)


def _plain(value: float, limit: float) -> _Scale:
    """Around zero, value and limit."""
    ticks = svg.nice_ticks(min(0.0, value, limit), 1.25 * max(0.0, value, limit), 5)
    low, high = ticks[0], ticks[-1]

    def place(amount: float) -> float:
        return (amount - low) / (high - low)

    return _Scale(place, [(place(tick), words.number(tick)) for tick in ticks])


def _straight() -> _Scale:
    return _Scale(clamp, [(tick, f"{100 * tick:.0f}%") for tick in (0, 0.25, 0.5, 0.75, 1)])


def _logarithmic(value: float, limit: float) -> _Scale:
    """Powers of ten around value and limit: at most four decades below the limit and six above."""
    shown = min(max(value, limit * 1e-3 if value <= 0 else 0.0), limit * 1e6)
    low = math.floor(math.log10(max(min(shown, limit / 100), limit * 1e-4)))
    high = math.ceil(math.log10(min(max(shown * 1.5, limit * 10), limit * 1e6)))
    step = 1 if high - low <= 6 else 2

    def place(amount: float) -> float:
        if amount <= 0:
            return 0.0
        return min(max((math.log10(min(amount, 1e300)) - low) / (high - low), 0.0), 1.0)

    return _Scale(
        place,
        [((exponent - low) / (high - low), _power(exponent)) for exponent in range(low, high + 1, step)],
    )


def _power(exponent: int) -> str:
    if not -6 <= exponent <= 9:
        return f"10^{exponent}".replace("-", "\u2212")
    return f"{10**exponent:,}" if exponent >= 0 else f"{10.0**exponent:.{-exponent}f}"


def loss_chart(key: str, loss: Sequence[float]) -> Markup | None:
    """A search's loss by step; None if there are fewer than two values to draw."""
    points = [(step, value) for step, value in enumerate(loss, start=1) if math.isfinite(value)]
    if len(points) < 2:
        return None
    stride = math.ceil(len(points) / _MAX_POINTS)
    points = points[:-1:stride] + points[-1:]
    values = [value for _, value in points]
    ticks = svg.nice_ticks(min(values), max(values), 4)
    bottom, top = ticks[0], ticks[-1]
    first, last = points[0][0], points[-1][0]
    height = 160
    run = [((step - first) / (last - first), (value - bottom) / (top - bottom)) for step, value in points]
    children = grid(ticks, height, lambda tick: f"{tick:g}".replace("-", "\u2212"))
    children += steps(first, last, height)
    children.append(svg.curves([("curve loss", run)], height))
    description = (
        f"From {words.number(values[0])} at step {first} to {words.number(values[-1])} at step {last}."
    )
    return svg.picture(key, "Loss of the search by step", description, height, "lines", children)


def grid(ticks: Sequence[float], height: int, label: Callable[[float], str]) -> list[Markup]:
    """Horizontal lines at the ticks, lowest first, with labels on the left."""
    low, high = ticks[0], ticks[-1]
    children = []
    for tick in ticks:
        down = height * (1 - (tick - low) / (high - low))
        children.append(svg.horizontal(down, "grid"))
        children.append(
            svg.tag("text", label(tick), x=-8, y=f"{down + 4:g}", class_="tick", text_anchor="end")
        )
    return children


def percent_grid(height: int) -> list[Markup]:
    """A grid for fractions, in quarters."""
    return grid((0, 0.25, 0.5, 0.75, 1), height, lambda tick: f"{100 * tick:.0f}%")


def steps(first: int, last: int, height: int) -> list[Markup]:
    """Labels below a chart from ``first`` to ``last`` in whole steps."""
    inside = [
        int(tick) for tick in svg.nice_ticks(first, last, 5) if tick == int(tick) and first < tick < last
    ]
    gap = (last - first) * 0.1
    shown = [first, *(tick for tick in inside if tick - first > gap and last - tick > gap), last]
    return [
        svg.text(f"{tick}", (tick - first) / (last - first), height + 20, kind="tick", anchored="middle")
        for tick in shown
    ]


def clamp(value: float) -> float:
    """Clamp a fraction to [0, 1]; 0 if it isn't finite."""
    return min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0
