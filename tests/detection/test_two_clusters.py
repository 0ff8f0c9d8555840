"""Two clusters by hand-worked examples."""

from __future__ import annotations

import pytest
import torch

from fedmend.detection.two_clusters import silhouette, two_means, whitened
from fedmend.seeds import generator

LINE = torch.tensor([[0.0], [1.0], [10.0], [12.0], [11.0]], dtype=torch.float64)


def test_two_means_finds_the_groups() -> None:
    second = two_means(LINE, generator(0))
    groups = {tuple(second.nonzero().flatten().tolist()), tuple((~second).nonzero().flatten().tolist())}
    assert groups == {(0, 1), (2, 3, 4)}


def test_identical_points_are_no_error() -> None:
    assert two_means(torch.zeros(5, 2, dtype=torch.float64), generator(0)).shape == (5,)


def test_silhouette_by_hand() -> None:
    points = torch.tensor([[0.0], [2.0], [8.0]], dtype=torch.float64)
    # of 0: own 2, other 8; of 2: own 2, other 6; 8 is alone: 0
    expected = ((8 - 2) / 8 + (6 - 2) / 6 + 0) / 3
    assert silhouette(points, torch.tensor([False, False, True])) == pytest.approx(expected)


def test_one_cluster_has_no_silhouette() -> None:
    assert silhouette(LINE, torch.zeros(5, dtype=torch.bool)) == 0.0


def test_whitened_points_have_unit_covariance() -> None:
    points = torch.randn(50, 8, generator=generator(0), dtype=torch.float64)
    points = points @ torch.diag(torch.tensor([9.0, 5, 1, 1, 0.5, 0, 0, 0], dtype=torch.float64))
    found = whitened(points, 10)
    assert found.shape == (50, 5)  # the others don't vary
    assert torch.allclose(found.T @ found / 49, torch.eye(5, dtype=torch.float64), atol=1e-9)
    assert whitened(points, 2).shape == (50, 2)
    assert float(torch.corrcoef(torch.stack([whitened(points, 2)[:, 0], points[:, 0]]))[0, 1].abs()) > 0.9


def test_points_that_do_not_vary_have_no_components() -> None:
    assert whitened(torch.ones(6, 3, dtype=torch.float64), 10).shape == (6, 0)
