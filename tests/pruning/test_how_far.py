"""From scores to a sequence, and how far along it to prune."""

from itertools import pairwise

import pytest
import torch

from fedmend.errors import ConfigError, DataError
from fedmend.pruning import how_far, points_along, pruning_sequence


def test_the_sequence_begins_with_the_lowest_score() -> None:
    assert pruning_sequence(torch.tensor([0.5, 0.1, 0.5, 0.0])).tolist() == [3, 1, 0, 2]


def test_points_along_a_sequence() -> None:
    assert points_along(1) == [0]
    assert points_along(5) == [0, 1, 2, 3, 4]
    assert points_along(9, 4) == [0, 2, 4, 6, 8]
    assert points_along(51) == list(range(51))
    for channels in (2, 52, 128, 512, 1000):
        points = points_along(channels)
        assert (points[0], points[-1], len(points)) == (0, channels - 1, min(channels, 51))
        gaps = {high - low for low, high in pairwise(points)}
        assert max(gaps) - min(gaps) <= 1


STAIRS = torch.tensor([0.95, 0.945, 0.94, 0.93, 0.925, 0.90, 0.90], dtype=torch.float64)


@pytest.mark.parametrize(
    ("max_drop", "step", "total"),
    [
        (0.0, 0, 0),
        (0.004, 0, 0),
        (0.005, 2, 1),  # 0.95 to 0.945 is a drop of exactly the limit
        (0.01, 4, 2),
        (0.02, 4, 3),
        (0.024, 4, 3),
        (0.025, 6, 4),
        (0.05, 6, 6),
        (1.0, 6, 6),
    ],
)
def test_how_far_by_hand(max_drop: float, step: int, total: int) -> None:
    assert how_far(STAIRS, max_drop) == how_far(STAIRS, max_drop, "step") == step
    assert how_far(STAIRS, max_drop, "total") == total


def test_a_rise_is_no_drop() -> None:
    accuracies = torch.tensor([0.5, 0.9, 0.6, 0.45], dtype=torch.float64)
    assert how_far(accuracies, 0.1) == 1
    assert how_far(accuracies, 0.01, "total") == 2
    assert how_far(torch.tensor([0.3]), 0.0) == 0


def test_a_drop_of_exactly_the_limit_never_falls_to_rounding() -> None:
    for right in range(1, 101):
        accuracies = torch.tensor([right, right - 1, right - 1], dtype=torch.float64) / 100
        assert how_far(accuracies) == how_far(accuracies, rule="total") == 2


def test_what_is_no_limit_or_no_accuracies_is_refused() -> None:
    for max_drop, rule in ((-0.01, "step"), (1.01, "step"), (float("nan"), "total"), (0.01, "sum")):
        with pytest.raises(ConfigError, match="max_drop must be"):
            how_far(STAIRS, max_drop, rule)  # type: ignore[arg-type]
    for accuracies in ([], [[0.5]], [0.5, 1.01], [-0.01], [0.9, float("nan")]):
        with pytest.raises(DataError, match="vector of fractions"):
            how_far(torch.tensor(accuracies))
