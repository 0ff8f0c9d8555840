"""The weight of the mask's norm, by hand-worked rounds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from fedmend.detection.search.penalty_schedule import Penalties, Schedule
from fedmend.errors import ConfigError

QUICK = Schedule(initial=1.0, multiplier=4.0, patience=2, success=0.9, stop_after=3)


def rounds(penalties: Penalties, rates: list[list[float]], norms: list[list[float]]) -> list[list[bool]]:
    return [
        penalties.judge(torch.tensor(rate), torch.tensor(norm)).tolist()
        for rate, norm in zip(rates, norms, strict=True)
    ]


def test_the_weight_rises_after_successes_in_a_row_and_falls_after_failures() -> None:
    penalties, weights = Penalties(1, QUICK), []
    for rate in (0.9, 0.8, 1.0, 0.9, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0):
        penalties.judge(torch.tensor([rate]), torch.tensor([5.0]))
        weights.append(float(penalties.weights))
    assert weights == [1, 1, 1, 4, 4, 16, 16, 2, 2, 0.25]  # times 4, and by 4 to the power of 1.5


def test_the_best_norm_is_updated_and_only_by_rounds_of_success() -> None:
    penalties = Penalties(1, QUICK)
    better = rounds(penalties, [[0.5], [0.9], [1.0], [0.5], [1.0]], [[1.0], [9.0], [7.0], [2.0], [8.0]])
    assert better == [[False], [True], [True], [False], [False]]
    assert penalties.best.tolist() == [7]


def test_a_patch_is_finished_once_its_weight_went_both_ways_and_its_norm_no_longer_falls() -> None:
    penalties, finished = Penalties(1, QUICK), []
    for rate, norm in [(1.0, 100.0), *[(1.0, 99.5)] * 4, (0.0, 50.0), (0.0, 50.0), (1.0, 90.0)]:
        penalties.judge(torch.tensor([rate]), torch.tensor([norm]))
        finished.append(bool(penalties.finished))
    assert finished == [False] * 6 + [True, False]  # 99.5 is not 1 % less than 100; 90 is


def test_without_a_success_no_patch_is_finished() -> None:
    penalties = Penalties(1, QUICK)
    for rate in (1.0, 1.0, *[0.0] * 20):
        penalties.judge(torch.tensor([rate]), torch.tensor([math.inf]))
    assert not bool(penalties.finished)
    assert penalties.best.tolist() == [math.inf]


def test_each_patch_has_a_state_of_its_own() -> None:
    rates = [[1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]
    norms = [[3.0, 9.0, 5.0], [4.0, 9.0, 5.0], [2.0, 8.0, 4.0], [2.0, 7.0, 3.0], [2.0, 6.0, 1.0]]
    together = Penalties(3, QUICK)
    better = rounds(together, rates, norms)
    for row in range(3):
        alone = Penalties(1, QUICK)
        assert rounds(alone, [[each[row]] for each in rates], [[each[row]] for each in norms]) == [
            [each[row]] for each in better
        ]
        assert float(alone.weights) == float(together.weights[row])
        assert float(alone.best) == float(together.best[row])
    together.keep(torch.tensor([True, False, True]))
    assert together.best.tolist() == [3, 1]
    assert len(together.weights) == len(together.finished) == 2


@pytest.mark.parametrize(
    ("name", "wrong"), [("initial", 0.0), ("multiplier", 1.0), ("patience", 0), ("success", 1.1), ("stop", 3)]
)
def test_settings_out_of_range_are_refused(name: str, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        Schedule(**{name: wrong})
