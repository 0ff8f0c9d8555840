"""What counts as released, by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedmend.comparison import CellResult, CellRound, cell_results
from fedmend.comparison.cell_results import read_result, released_accuracy, released_asr, save_result
from fedmend.errors import DataError


def rounds(decisions: str, rates: list[float]) -> list[CellRound]:
    """From round 0 on; A, P, R and H are a guard's decisions, a dot is none."""
    named: dict[str, Any] = {"A": "accept", "P": "repair", "R": "rollback", "H": "hold", ".": None}
    return [
        CellRound(number, number / 10, (rate,), (), named[letter])
        for number, (letter, rate) in enumerate(zip(decisions, rates, strict=True))
    ]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run whose first attack is in the second round."""

    def make(guarded: bool, actions: tuple[tuple[int | None, str], ...] = ()) -> Any:
        config = SimpleNamespace(
            guard={} if guarded else None,
            model=SimpleNamespace(start_round=0),
            attack=(SimpleNamespace(first_round=2),),
        )
        monkeypatch.setattr(cell_results, "simulated_config", lambda _: config)
        lines = tuple(SimpleNamespace(round=number, action=action) for number, action in actions)
        monkeypatch.setattr(cell_results, "_lines", lambda _: lines)
        return SimpleNamespace()

    return make


@pytest.mark.parametrize(
    ("decisions", "rates", "expected"),
    [
        pytest.param("....", [1.0, 0.9, 0.3, 0.2], 0.3, id="since-the-attack"),
        pytest.param("....", [1.0, 0.9, 0.0, 0.0], 0.0, id="not-before-it"),
    ],
)
def test_without_a_guard(run: Any, decisions: str, rates: list[float], expected: float) -> None:
    assert released_asr(run(False), rounds(decisions, rates)) == expected


@pytest.mark.parametrize(
    ("decisions", "rates", "expected"),
    [
        pytest.param(".ARR", [1.0, 0.0, 0.1, 0.1], 0.1, id="the-last-accepted-stays"),
        pytest.param(".AHA", [1.0, 0.0, 0.9, 0.2], 0.2, id="a-held-model-is-not-released"),
        pytest.param(".APR", [1.0, 0.0, 0.4, 0.4], 0.4, id="a-repaired-one-is"),
        pytest.param(".RRR", [1.0, 1.0, 1.0, 1.0], None, id="none-accepted"),
        pytest.param(".RRA", [1.0, 1.0, 1.0, 0.2], 0.2, id="only-since-the-first-accepted"),
    ],
)
def test_with_a_guard(run: Any, decisions: str, rates: list[float], expected: float | None) -> None:
    assert released_asr(run(True), rounds(decisions, rates)) == expected


def test_a_trusted_start_is_released(run: Any) -> None:
    assert released_asr(run(True, ((None, "accept"),)), rounds(".RR", [0.1, 0.1, 0.1])) == 0.1


def test_the_released_accuracy(run: Any) -> None:
    accepted = run(True, ((1, "accept"),))
    assert released_accuracy(accepted, rounds(".AHH", [0.0] * 4)) == 0.1
    assert released_accuracy(accepted, rounds(".ARR", [0.0] * 4)) == 0.3  # the record of the last round
    assert released_accuracy(run(True, ((1, "rollback"),)), rounds(".R", [0.0] * 2)) is None
    assert released_accuracy(run(False), rounds("..", [0.0] * 2)) == 0.1


def test_a_result_on_disk(tmp_path: Path) -> None:
    result = CellResult("k", "complete", tuple(rounds(".A", [0.5, 0.25])), 0.5, 0.25, 3.5)
    path = tmp_path / "cell.json"
    assert read_result(path) is None
    save_result(result, path)
    assert read_result(path) == result
    assert result.final_asr == 0.25
    path.write_text(path.read_text(encoding="utf-8").replace("0.25", "1.25"), encoding="utf-8")
    with pytest.raises(DataError, match=r"cell.json holds no cell's result; remove it"):
        read_result(path)
