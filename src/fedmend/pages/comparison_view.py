"""The view of a comparison: what missed a limit first, then heat maps and curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedmend.comparison import NOTHING_RELEASED, Estimate, Limits, Row, misses_first
from fedmend.pages.asr_curves import Curves, curves_of
from fedmend.pages.heat_table import HeatTable, arranged
from fedmend.pages.words import MISSING, duration, percent

Settings = list[tuple[str, list[tuple[str, str]]]]


@dataclass(frozen=True)
class ComparisonContents:
    """The contents of a comparison's page.

    Attributes:
        title: the page's heading.
        rows: the combinations, in the plan's order; those without a run have figures of None.
        limits: what counts as a miss.
        done, planned: how many federations have run, and are to run; honest ones that accompany others are among them.
        columns: the axis whose variants are the columns of heat maps; None: the last.
        settings: nested settings of the base.
        versions: of the packages that ran it.
    """

    title: str
    rows: tuple[Row, ...]
    limits: Limits
    done: int
    planned: int
    columns: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A figure, and in small what belongs to it."""

    main: str
    beside: str = ""


@dataclass(frozen=True)
class CombinationView:
    """A line of the table."""

    choices: tuple[str, ...]
    misses: str
    ran: str
    accuracy: Figure
    lost: Figure
    released_asr: Figure
    final_asr: Figure
    seconds: str
    errors: tuple[str, ...]


@dataclass(frozen=True)
class ComparisonView:
    """Everything that the page shows; ``repeated`` says whether there are several seeds."""

    headline: str
    tone: str
    axes: tuple[str, ...]
    combinations: list[CombinationView]
    heat_tables: list[HeatTable]
    curves: Curves
    repeated: bool
    seconds: str


def view_of_comparison(contents: ComparisonContents) -> ComparisonView:
    """Gather the page's parts."""
    rows = contents.rows
    ran = [row for row in rows if row.runs]
    axes = tuple(rows[0].choices) if rows else ()
    columns = contents.columns or (axes[-1] if axes else None)
    missed = [row for row in ran if row.misses]
    complete = contents.done == contents.planned
    return ComparisonView(
        headline=_headline(len(missed), len(ran), complete),
        tone="bad" if missed else "good" if complete else "unsure",
        axes=axes,
        combinations=[_combination(row) for row in misses_first(ran)],
        heat_tables=_heat_tables(rows, columns) if columns else [],
        curves=curves_of(misses_first(ran), columns),
        repeated=any(row.planned > 1 for row in rows),
        seconds=duration(sum(run.result.seconds for row in rows for run in row.runs)),
    )


def _headline(missed: int, ran: int, complete: bool) -> str:
    if not ran:
        return "No result yet"
    so_far = "" if complete else " so far"
    if missed:
        return f"{missed} of {ran} combinations {'misses' if missed == 1 else 'miss'} a limit{so_far}"
    return f"No combination misses a limit{so_far}"


def _combination(row: Row) -> CombinationView:
    return CombinationView(
        choices=tuple(row.choices.values()),
        misses=" and ".join(row.misses),
        ran=f"{len(row.runs)} of {row.planned}",
        accuracy=_figure(row.accuracy),
        lost=_figure(row.lost, _points),
        released_asr=_worst(row.released_asr),
        final_asr=_figure(row.final_asr),
        seconds=MISSING if row.seconds is None else duration(row.seconds.mean),
        errors=tuple(run.result.error for run in row.runs if run.result.error),
    )


def _figure(estimate: Estimate | None, said: Callable[[float], str] = percent) -> Figure:
    """The mean, and its interval."""
    if estimate is None:
        return Figure(MISSING)
    return Figure(said(estimate.mean), _interval(estimate, said))


def _worst(estimate: Estimate | None) -> Figure:
    """The largest, and the mean with its interval."""
    if estimate is None:
        return Figure(MISSING)
    between = _interval(estimate, percent)
    return Figure(percent(estimate.largest), f"mean {percent(estimate.mean)}, {between}" if between else "")


def _interval(estimate: Estimate, said: Callable[[float], str]) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{said(estimate.low).removesuffix('%')} to {said(estimate.high)}"


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f}".replace("-", "\u2212")


def _heat_tables(rows: Sequence[Row], columns: str) -> list[HeatTable]:
    def asr(row: Row) -> tuple[float | None, str, bool]:
        value = None if row.released_asr is None else row.released_asr.largest
        return value, percent(value), "released ASR" in row.misses

    def accuracy(row: Row) -> tuple[float | None, str, bool]:
        lost = None if row.lost is None else row.lost.largest
        told = percent(None if row.accuracy is None else row.accuracy.mean)
        return lost, told, bool({"accuracy", NOTHING_RELEASED} & {*row.misses})

    return [
        arranged("Largest ASR of a released model", rows, columns, 1.0, asr),
        arranged("Accuracy, shaded by what was lost", rows, columns, 0.1, accuracy),
    ]
