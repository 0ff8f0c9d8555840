"""The report's charts: a metric against its limit, the search's loss, a federation by round."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby

from markupsafe import Markup

from fedmend.federation import RoundRecord
from fedmend.pages import svg
from fedmend.pages.contents import ReportContents
from fedmend.pages.words import limit as words_limit
from fedmend.pages.words import number, percent

_MAX_POINTS = 400


def share_bullet(
    key: str, name: str, value: float, limit: float, tone: str, *, suspicious_above: bool
) -> Markup:
    """A share in [0, 1] against its limit, on a straight scale, in its finding's tone."""
    ticks = [(tick, f"{100 * tick:.0f}%") for tick in (0, 0.25, 0.5, 0.75, 1)]
    return _bullet(
        key,
        name,
        clamp(value),
        clamp(limit),
        tone,
        (percent(value), words_limit(limit)),
        ticks,
        suspicious_above,
    )


def log_bullet(key: str, name: str, value: float, limit: float, tone: str) -> Markup:
    """A positive value against its limit, on a logarithmic scale that shows both; suspicious above."""
    limit = limit if limit > 0 and math.isfinite(limit) else 1.0
    shown = value if value > 0 and math.isfinite(value) else limit * 1e-3
    low = math.floor(math.log10(max(min(shown, limit / 100), limit * 1e-4)))
    high = math.ceil(math.log10(min(max(shown * 1.5, limit * 10), limit * 1e6)))
    step = 1 if high - low <= 6 else 2
    ticks = [((exponent - low) / (high - low), _power(exponent)) for exponent in range(low, high + 1, step)]

    def place(amount: float) -> float:
        return clamp((math.log10(amount) - low) / (high - low))

    return _bullet(key, name, place(shown), place(limit), tone, (number(value), number(limit)), ticks, True)


def _bullet(
    key: str,
    name: str,
    value: float,
    limit: float,
    tone: str,
    told: tuple[str, str],
    ticks: Sequence[tuple[float, str]],
    suspicious_above: bool,
) -> Markup:
    start, end = (limit, 1.0) if suspicious_above else (0.0, limit)
    side = "above" if suspicious_above else "below"
    value_text, limit_text = told
    children = [
        svg.tag("rect", x="0%", y=20, width="100%", height=16, rx=3, class_="track"),
        svg.tag("rect", x=svg.at(start), y=20, width=svg.at(end - start), height=16, rx=3, class_="zone"),
        svg.tag("line", x1="0%", x2=svg.at(value), y1=28, y2=28, class_=f"stem {tone}"),
        svg.vertical(limit, 14, 42, "limit"),
        svg.text(f"limit {limit_text}", limit, 9, kind="limit-label"),
        svg.tag("circle", cx=svg.at(value), cy=28, r=7, class_=f"dot {tone}"),
    ]
    children += [svg.text(label, across, 58, kind="tick") for across, label in ticks]
    description = (
        f"{value_text}, with the limit at {limit_text}. Suspicious is the shaded side, {side} the limit."
    )
    return svg.picture(key, f"{name} against its limit", description, 62, "bullet", children)


def loss_chart(loss: Sequence[float]) -> Markup | None:
    """The search's loss by step; None where there are fewer than two values to draw."""
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
    description = f"From {number(values[0])} at step {first} to {number(values[-1])} at step {last}."
    return svg.picture("loss", "Loss of the search by step", description, height, "lines", children)


def rounds_chart(contents: ReportContents) -> Markup | None:
    """Accuracy and attack success by round, with marks; None where there are fewer than two rounds."""
    rounds = contents.rounds
    if len(rounds) < 2:
        return None
    height, first, last = 280, rounds[0].round, rounds[-1].round

    def across(number: int) -> float:
        return (number - first) / (last - first)

    children = grid((0, 0.25, 0.5, 0.75, 1), height, lambda tick: f"{100 * tick:.0f}%")
    children += steps(first, last, height)
    runs = [("curve accuracy", [(across(item.round), clamp(item.accuracy)) for item in rounds])]
    for known, group in groupby(rounds, key=lambda item: item.asr is not None):
        if known:
            runs.append(("curve asr", [(across(i.round), clamp(i.asr or 0.0)) for i in group]))
    marks = [
        ("first attack", contents.first_attack_round, "attack"),
        ("reference", contents.reference_round, "reference"),
        ("suspect", contents.suspect_round, "suspect"),
    ]
    shown = sorted((at, label, kind) for label, at, kind in marks if at is not None and first <= at <= last)
    labels = []
    for row, (at, label, kind) in enumerate(reversed(shown)):
        place, down = across(at), -10 - 18 * row
        children.append(svg.vertical(place, down - 10, height, f"mark {kind}"))
        side, told = (
            ("start", f"\u2002{label}, round {at}") if place < 0.55 else ("end", f"{label}, round {at}\u2002")
        )
        labels.append(svg.text(told, place, down, kind=f"mark-label {kind}", anchored=side))
    children += [
        svg.tag("circle", cx=svg.at(across(item.round)), cy=height, r=3.5, class_="attacker")
        for item in rounds
        if item.attackers
    ]
    children += [svg.curves(runs, height), *labels]
    return svg.picture(
        "rounds", "Accuracy and attack success by round", _told(rounds), height, "lines rounds", children
    )


def _told(rounds: Sequence[RoundRecord]) -> str:
    first, last = rounds[0], rounds[-1]
    told = [f"Clean accuracy: {percent(first.accuracy)} in round {first.round}"]
    told.append(f"{percent(last.accuracy)} in round {last.round}")
    known = [item for item in rounds if item.asr is not None]
    if known:
        highest = max(item.asr or 0.0 for item in known)
        told.append(f"attack success: {percent(known[-1].asr)} in round {known[-1].round}")
        told.append(f"at most {percent(highest)}")
    return ", ".join(told) + ". Each round's figures are in the table below."


def grid(ticks: Sequence[float], height: int, label: Callable[[float], str]) -> list[Markup]:
    """Lines across at the ticks, lowest first, with their labels on the left."""
    low, high = ticks[0], ticks[-1]
    children = []
    for tick in ticks:
        down = height * (1 - (tick - low) / (high - low))
        children.append(svg.horizontal(down, "grid"))
        children.append(
            svg.tag("text", label(tick), x=-8, y=f"{down + 4:g}", class_="tick", text_anchor="end")
        )
    return children


def steps(first: int, last: int, height: int) -> list[Markup]:
    """Labels below a chart that goes from ``first`` to ``last`` in whole steps."""
    inside = [
        int(tick) for tick in svg.nice_ticks(first, last, 5) if tick == int(tick) and first < tick < last
    ]
    gap = (last - first) * 0.1
    shown = [first, *(tick for tick in inside if tick - first > gap and last - tick > gap), last]
    return [
        svg.text(f"{tick}", (tick - first) / (last - first), height + 20, kind="tick", anchored="middle")
        for tick in shown
    ]


def _power(exponent: int) -> str:
    return f"{10**exponent:,}" if exponent >= 0 else f"{10.0**exponent:.{-exponent}f}"


def clamp(value: float) -> float:
    """A share put inside [0, 1]; 0 where it is no number."""
    return min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0
