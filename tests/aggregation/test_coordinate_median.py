import pytest
import torch

from fedmend.aggregation import CoordinateMedian, Updates
from fedmend.aggregation.coordinate_median import median_of, with_median_buffers

FOUR = torch.tensor([[1.0, 8.0], [2.0, -60.0], [4.0, 1e30], [-900.0, 2.0]])


def test_by_hand() -> None:
    assert median_of(FOUR).tolist() == [1.5, 5.0]
    assert median_of(FOUR[:3]).tolist() == [2.0, 8.0]
    assert median_of(torch.tensor([[3e38], [3e38]])).tolist() == pytest.approx(
        [3e38]
    )  # their sum is infinite


def test_buffers_of_the_named_clients() -> None:
    updates = Updates(FOUR, torch.ones(4), (0, 1, 2, 3), torch.tensor([True, False]))
    delta = torch.tensor([7.0, 7.0])
    assert with_median_buffers(delta, updates, torch.tensor([0, 1, 3])).tolist() == [7, 2]
    assert delta.tolist() == [7, 7]


@pytest.mark.filterwarnings("ignore")
def test_flowers_median_agrees() -> None:
    aggregate = pytest.importorskip("flwr.server.strategy.aggregate")
    deltas = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    updates = Updates(deltas, torch.ones(10), tuple(range(10)), torch.ones(6, dtype=torch.bool))
    (expected,) = aggregate.aggregate_median([([delta.numpy()], 1) for delta in deltas])
    assert CoordinateMedian()(updates, {})[0].tolist() == pytest.approx(expected.tolist())
