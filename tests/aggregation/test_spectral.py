import pytest
import torch

from fedmend.aggregation import Spectral, Updates
from fedmend.aggregation.spectral import outlier_scores


def updates(deltas: torch.Tensor) -> Updates:
    mask = torch.ones(deltas.shape[1], dtype=torch.bool)
    return Updates(deltas, torch.ones(len(deltas)), tuple(range(len(deltas))), mask)


def test_scores_by_hand() -> None:
    # Centred: (-3, 0), (-1, 0), (4, 0); all along one direction. Scores are relative to the largest square, 49.
    points = torch.tensor([[0.0, 2.0], [2.0, 2.0], [7.0, 2.0]], dtype=torch.float64)
    scores = outlier_scores(points @ points.T, 1)
    assert (scores / scores.sum()).tolist() == pytest.approx([9 / 26, 1 / 26, 16 / 26])


def test_scores_are_projections_on_singular_vectors() -> None:
    points = torch.randn(8, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centred = points - points.mean(0)
    _, _, right = torch.linalg.svd(centred, full_matrices=False)
    for dimensions in (1, 3):
        expected = (centred @ right[:dimensions].T).square().sum(1)
        scores = outlier_scores(points @ points.T, dimensions)
        torch.testing.assert_close(scores / scores.sum(), expected / expected.sum())


def test_the_outliers_are_left_out_even_if_one_hides_another() -> None:
    deltas = 1 + 0.1 * torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    deltas[2] += 1e8
    deltas[5] += torch.tensor([1e3, -1e3, 0, 0, 0, 0])
    kept = Spectral(0.2).prepare(updates(deltas))
    assert kept.client_ids == (0, 1, 3, 4, 6, 7, 8, 9)
    torch.testing.assert_close(Spectral(0.2)(updates(deltas), {})[0], kept.deltas.mean(0))


def test_without_byzantine_clients_it_is_the_mean() -> None:
    deltas = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Spectral(0.0)(updates(deltas), {})[0], deltas.mean(0))
