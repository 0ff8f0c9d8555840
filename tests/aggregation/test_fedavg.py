import pytest
import torch

from fedmend.aggregation import uniform_mean, weighted_mean

DELTAS = torch.tensor([[1.0, -2.0, 0.0], [5.0, 2.0, 0.4]])


def test_weighted_by_hand() -> None:
    # (1 * delta_0 + 3 * delta_1) / 4
    assert weighted_mean(DELTAS, torch.tensor([1, 3])).tolist() == pytest.approx([4.0, 1.0, 0.3])


def test_uniform_by_hand() -> None:
    assert uniform_mean(DELTAS).tolist() == pytest.approx([3.0, 0.0, 0.2])


def test_only_the_proportions_of_the_counts_matter() -> None:
    assert torch.equal(
        weighted_mean(DELTAS, torch.tensor([1, 3])), weighted_mean(DELTAS, torch.tensor([20, 60]))
    )
    assert torch.equal(weighted_mean(DELTAS, torch.tensor([7, 7])), uniform_mean(DELTAS))


def test_large_counts_do_not_overflow() -> None:
    for largest in (2**40, 2**61):
        counts = torch.tensor([largest, 3 * largest])
        assert weighted_mean(DELTAS, counts).tolist() == pytest.approx([4.0, 1.0, 0.3])
    claims = torch.tensor([100, 2**62, 2**62])
    assert weighted_mean(torch.ones(3, 1), claims).tolist() == pytest.approx([1.0])


def test_the_type_is_kept() -> None:
    assert weighted_mean(DELTAS.double(), torch.tensor([1, 3])).dtype == torch.float64
    assert weighted_mean(DELTAS, torch.tensor([1, 3])).dtype == torch.float32
