import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from fedmend.aggregation import GeometricMedian, Updates
from fedmend.aggregation.geometric_median import weiszfeld_weights


def updates(deltas: Tensor) -> Updates:
    mask = torch.ones(deltas.shape[1], dtype=torch.bool)
    return Updates(deltas, torch.ones(len(deltas)), tuple(range(len(deltas))), mask)


def test_by_hand() -> None:
    # Of a square's corners it is the centre; of a triangle with a corner of more than 120 degrees, that corner.
    square = torch.tensor([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]])
    torch.testing.assert_close(GeometricMedian()(updates(square), {})[0], torch.tensor([1.0, 1.0]))
    flat = torch.tensor([[-5.0, 0.0], [0.0, 0.5], [5.0, 0.0]])
    torch.testing.assert_close(
        GeometricMedian()(updates(flat), {})[0], torch.tensor([0.0, 0.5]), atol=1e-4, rtol=0
    )


def test_one_step_by_hand() -> None:
    # On a line 0, 1, 10 it starts from the mean of 0 and 1, the two closest to the others: 0.5. Then the weights are
    # 1 / 0.5, 1 / 0.5 and 1 / 9.5.
    line = torch.tensor([[0.0], [1.0], [10.0]], dtype=torch.float64)
    raw = torch.tensor([2.0, 2.0, 1 / 9.5], dtype=torch.float64)
    torch.testing.assert_close(weiszfeld_weights(line @ line.T, 1e-6, 1), raw / raw.sum())


def test_it_minimises_the_sum_of_distances() -> None:
    deltas = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    deltas[0] *= 50
    points = deltas.numpy()
    best = minimize(
        lambda v: np.linalg.norm(points - v, axis=1).sum(), np.median(points, axis=0), tol=1e-12
    ).x
    assert GeometricMedian()(updates(deltas), {})[0].tolist() == pytest.approx(best.tolist(), abs=1e-4)


@pytest.mark.parametrize("far", [1e4, 1e15, 1e30], ids=str)
def test_how_far_off_an_attacker_is_hardly_matters(far: float) -> None:
    deltas = torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    deltas[:3] = far
    delta = GeometricMedian()(updates(deltas), {})[0]
    deltas[:3] = 1e6
    torch.testing.assert_close(delta, GeometricMedian()(updates(deltas), {})[0], atol=1e-3, rtol=0)
