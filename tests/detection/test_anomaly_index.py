"""The median absolute deviation, by hand-worked examples."""

from __future__ import annotations

import pytest
import torch

from fedmend.detection.anomaly_index import anomaly, lower_anomaly


def test_the_index_is_the_distance_from_the_median_in_consistent_deviations() -> None:
    found = anomaly(torch.tensor([1.0, 2.0, 3.0, 4.0, 15.0]))
    assert found.median == 3
    assert found.deviation == pytest.approx(1.4826)  # distances 2, 1, 0, 1, 12: median 1
    assert found.index.tolist() == pytest.approx([each / 1.4826 for each in (-2, -1, 0, 1, 12)])
    assert found.degenerate is None


def test_of_an_even_count_the_median_is_the_mean_of_the_middle_two() -> None:
    found = anomaly(torch.tensor([1.0, 2.0, 4.0, 9.0]))
    assert found.median == 3
    assert found.deviation == pytest.approx(1.4826 * 1.5)  # distances 2, 1, 1, 6


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([5.0, 5.0, 5.0, 1.0], "spread is 0"),
        ([1.0, 2.0], "2 classes are too few"),
        ([1.0, float("nan"), 2.0, 3.0], "not finite"),
    ],
)
def test_a_degenerate_deviation_is_said_to_be_one(values: list[float], why: str) -> None:
    found = anomaly(torch.tensor(values))
    assert found.degenerate is not None
    assert why in found.degenerate
    assert found.index.tolist() == [0.0] * len(values)


def test_the_lower_deviation_is_of_the_classes_up_to_the_median() -> None:
    found = lower_anomaly(torch.tensor([1.0, 7.0, 8.0, 9.0, 30.0, 99.0]))
    assert found.median == 8.5
    assert found.deviation == pytest.approx(
        1.4826 * 1.5
    )  # distances 7.5, 1.5 and 0.5; those of all have the median 4.5
    assert found.index[0] == pytest.approx(-7.5 / (1.4826 * 1.5))
    odd = lower_anomaly(torch.tensor([1.0, 6.0, 8.0, 50.0, 90.0]))
    assert odd.deviation == pytest.approx(1.4826 * 2)  # distances 7, 2 and 0
    same = lower_anomaly(torch.tensor([1.0, 8.0, 8.0, 50.0, 90.0]))
    assert same.degenerate is not None
