"""A heat map as a table, so that every figure can be read: one axis across, all others down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedmend.comparison import Row
from fedmend.pages.charts import clamp

_DARKEST = 70

Read = Callable[[Row], tuple[float | None, str, bool]]
"""From a row to a value (None: there is none), its text, and whether it misses a limit."""


@dataclass(frozen=True)
class HeatCell:
    """A figure; ``shade`` is a percentage of the colour, from 0 to 70."""

    text: str
    shade: int
    missed: bool


@dataclass(frozen=True)
class HeatTable:
    """``across`` are the column axis's labels; each of ``lines`` has a label for every other axis, and its cells."""

    title: str
    axis: str
    others: tuple[str, ...]
    across: tuple[str, ...]
    lines: list[tuple[tuple[str, ...], list[HeatCell | None]]]


def arranged(title: str, rows: Sequence[Row], axis: str, full: float, read: Read) -> HeatTable:
    """Arrange rows.

    Args:
        title: above the table.
        rows: all have the same axes.
        axis: the one across.
        full: the value of the darkest shade; 0 has none.
        read: a row's figure.
    """
    across = tuple(dict.fromkeys(row.choices[axis] for row in rows))
    groups: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        others = tuple(label for name, label in row.choices.items() if name != axis)
        groups.setdefault(others, {})[row.choices[axis]] = row
    lines = [
        (others, [_cell(group[label], full, read) if label in group else None for label in across])
        for others, group in groups.items()
    ]
    names = tuple(name for name in rows[0].choices if name != axis) if rows else ()
    return HeatTable(title, axis, names, across, lines)


def _cell(row: Row, full: float, read: Read) -> HeatCell | None:
    if not row.runs:
        return None
    value, text, missed = read(row)
    return HeatCell(text, round(_DARKEST * clamp((value or 0.0) / full)), missed)
