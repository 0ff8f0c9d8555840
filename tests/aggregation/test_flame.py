import pytest
import torch

from fedmend.aggregation import FLAME, Updates
from fedmend.aggregation.flame import cosine_distances, majority_component


def test_cosine_distances_by_hand() -> None:
    vectors = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    distances = cosine_distances(vectors @ vectors.T)
    assert distances.tolist() == [[0, 1, 2, 1], [1, 0, 1, 1], [2, 1, 0, 1], [1, 1, 1, 0]]


def test_the_majority_is_found_by_single_linkage() -> None:
    # On a line: 0, 1, 2 and 3.5 hang together at 1.5; 9 and 9.1 are closer to each other, but two of six.
    line = torch.tensor([0.0, 9.0, 1.0, 3.5, 9.1, 2.0])
    assert majority_component((line[:, None] - line[None]).abs()).tolist() == [0, 2, 3, 5]
    assert majority_component(torch.zeros(1, 1)).tolist() == [0]
    # Of two, both are needed for a majority.
    assert majority_component(torch.tensor([[0.0, 5.0], [5.0, 0.0]])).tolist() == [0, 1]


def test_by_hand() -> None:
    # Three point the same way; the other two, which do so too, are fewer. The median norm of all five is 2.
    deltas = torch.tensor([[1.0, 0.0], [2.0, 0.1], [8.0, 0.0], [0.0, 2.0], [0.0, 50.0]])
    updates = Updates(deltas, torch.ones(5), tuple(range(5)), torch.ones(2, dtype=torch.bool))
    limit = deltas.norm(dim=1).median()
    clipped = torch.stack([deltas[0], deltas[1], deltas[2] * limit / 8])
    torch.testing.assert_close(FLAME(noise=0.0)(updates, {})[0], clipped.mean(0))


def test_noise_is_a_multiple_of_the_median_norm() -> None:
    size = 10_000
    deltas = torch.zeros(3, size)
    deltas[:, 0] = torch.tensor([1.0, 3.0, 10.0])
    updates = Updates(deltas, torch.ones(3), (0, 1, 2), torch.ones(size, dtype=torch.bool))
    delta, state = FLAME(noise=0.1)(updates, {})
    assert float(delta[1:].std()) == pytest.approx(0.3, rel=0.05)
    assert state["noise_round"].item() == 1


def test_hdbscan_admits_the_same_clients() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    for seed in range(5):
        random = torch.Generator().manual_seed(seed)
        vectors = torch.randn(15, 6, generator=random, dtype=torch.float64)
        vectors[:9] += 4
        distances = cosine_distances(vectors @ vectors.T)
        labels = cluster.HDBSCAN(
            min_cluster_size=8, min_samples=1, metric="precomputed", allow_single_cluster=True, copy=True
        ).fit_predict(distances.numpy())
        expected = [place for place, label in enumerate(labels.tolist()) if label >= 0]
        assert majority_component(distances).tolist() == expected
