from typing import Any

import pytest

from fedmend.comparison import (
    Cell,
    CellResult,
    CellRound,
    Limits,
    Row,
    cells_of,
    misses_first,
    plan_from_tables,
    rows_of,
)

LIMITS = Limits(released_asr=0.05, accuracy_lost=0.01)


@pytest.fixture
def cells(tables: Any) -> tuple[Cell, ...]:
    return cells_of(
        plan_from_tables(tables(seeds=[0, 1], defence={"a": {}, "b": {"training": {"lr": 0.01}}}))
    )


def result(cell: Cell, accuracy: float | None, asr: float | None, ended: Any = "complete") -> CellResult:
    rounds = (CellRound(0, 0.1, (0.0,)), CellRound(1, 0.5, (asr or 0.0, 0.01)))
    return CellResult(cell.key, ended, rounds, accuracy, asr, 2.0)


def first(cells: tuple[Cell, ...], results: list[CellResult]) -> Row:
    return rows_of(cells, {each.key: each for each in results}, LIMITS)[0]


def test_over_the_seeds(cells: tuple[Cell, ...]) -> None:
    row = first(cells, [result(cells[0], 0.9, 0.02), result(cells[1], 0.8, 0.04)])
    assert (row.choices, row.planned, len(row.runs)) == ({"defence": "a"}, 2, 2)
    assert row.accuracy is not None
    assert row.released_asr is not None
    assert (row.accuracy.mean, row.released_asr.largest) == (pytest.approx(0.85), 0.04)
    assert row.lost is None
    assert row.misses == ()
    assert row.curve == ((0, 0.0), (1, pytest.approx(0.03)))


@pytest.mark.parametrize(
    ("accuracy", "asr", "misses"),
    [
        pytest.param(0.9, 0.05, (), id="at-the-limit"),
        pytest.param(0.9, 0.06, ("released ASR",), id="asr"),
        pytest.param(0.89, 0.0, (), id="accuracy-at-the-limit"),
        pytest.param(0.88, 0.0, ("accuracy",), id="accuracy"),
        pytest.param(0.88, 0.06, ("released ASR", "accuracy"), id="both"),
        pytest.param(None, None, ("no model released",), id="nothing"),
    ],
)
def test_the_worst_seed_decides(
    cells: tuple[Cell, ...], accuracy: float | None, asr: float | None, misses: tuple[str, ...]
) -> None:
    honest = [result(cell.honest(), 0.9, None) for cell in cells]
    row = first(cells, [result(cells[0], 0.95, 0.0), result(cells[1], accuracy, asr), *honest])
    assert row.misses == misses


def test_one_that_diverged_is_a_miss(cells: tuple[Cell, ...]) -> None:
    assert first(cells, [result(cells[0], None, None, "diverged")]).misses == ("diverged",)


def test_misses_come_first_the_largest_asr_at_the_top(cells: tuple[Cell, ...]) -> None:
    def row(label: str, asr: float) -> Row:
        found = first(cells, [result(cells[0], 0.9, asr)])
        return Row({"defence": label}, *(getattr(found, name) for name in list(Row.__annotations__)[1:]))

    rows = [row("fine", 0.01), row("bad", 0.4), row("worse", 0.9), row("finer", 0.0)]
    assert [each.choices["defence"] for each in misses_first(rows)] == ["worse", "bad", "fine", "finer"]
