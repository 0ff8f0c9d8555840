"""Rows of a comparison of two attacks and two defences."""

from __future__ import annotations

from fedmend.comparison import CellResult, CellRound, Limits, Plan, Row, cells_of, rows_of
from fedmend.comparison.comparison_plan import Axis

LIMITS = Limits()
PLAN = Plan(
    {"attack": [{"first_round": 2}]},
    (
        Axis("attack", {"sba": {}, "<dba>": {"training": {"epochs": 2}}}),
        Axis("defence", {"nothing": {}, "guard": {"training": {"lr": 0.1}}}),
    ),
    seeds=(0, 1),
)


def result(key: str, accuracy: float | None, asr: float | None) -> CellResult:
    rates = () if asr is None else (asr,)
    rounds = tuple(CellRound(number, 0.5, rates if number else (0.0,)) for number in range(3))
    return CellResult(key, "complete", rounds, accuracy, asr, 60.0)


def rows(plan: Plan = PLAN, missing: int = 0) -> tuple[Row, ...]:
    """The guard releases next to nothing; the first attack works without it, and loses accuracy."""
    cells = cells_of(plan)
    results = {}
    for number, cell in enumerate(cells[: len(cells) - missing]):
        works = cell.choices["defence"] == "nothing" and cell.choices["attack"] == "sba"
        results[cell.key] = result(cell.key, 0.8 if works else 0.895, 0.9 + number / 100 if works else 0.01)
        results[cell.honest().key] = result(cell.honest().key, 0.9, None)
    return rows_of(cells, results, LIMITS)
