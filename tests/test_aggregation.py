import pytest
import torch

from fedmend.aggregation import fedavg, norm_bounded, uniform_fedavg
from fedmend.errors import DataError

DELTAS = torch.tensor([[1.0, -2.0, 0.0], [5.0, 2.0, 0.4]])


def test_weighted_by_hand() -> None:
    # (1 * delta_0 + 3 * delta_1) / 4
    assert fedavg(DELTAS, torch.tensor([1, 3])).tolist() == pytest.approx([4.0, 1.0, 0.3])


def test_uniform_by_hand() -> None:
    assert uniform_fedavg(DELTAS).tolist() == pytest.approx([3.0, 0.0, 0.2])


def test_server_learning_rate_multiplies_the_mean() -> None:
    assert fedavg(DELTAS, torch.tensor([1, 3]), 0.5).tolist() == pytest.approx([2.0, 0.5, 0.15])


def test_only_the_proportions_of_the_counts_matter() -> None:
    assert torch.equal(fedavg(DELTAS, torch.tensor([1, 3])), fedavg(DELTAS, torch.tensor([20, 60])))
    assert torch.equal(fedavg(DELTAS, torch.tensor([7, 7])), uniform_fedavg(DELTAS))


def test_one_client_is_taken_as_it_is() -> None:
    assert torch.equal(fedavg(DELTAS[:1], torch.tensor([12345])), DELTAS[0])


def test_large_counts_do_not_overflow() -> None:
    counts = torch.tensor([2**40, 3 * 2**40])
    assert fedavg(DELTAS, counts).tolist() == pytest.approx([4.0, 1.0, 0.3])


def test_type_and_arguments_are_kept() -> None:
    before = DELTAS.clone()
    assert fedavg(DELTAS.double(), torch.tensor([1, 3])).dtype == torch.float64
    assert fedavg(DELTAS, torch.tensor([1, 3])).dtype == torch.float32
    assert torch.equal(DELTAS, before)


@pytest.mark.parametrize(
    ("deltas", "counts"),
    [
        (torch.zeros(0, 3), torch.zeros(0)),
        (torch.zeros(3), torch.ones(3)),
        (torch.zeros(2, 3), torch.ones(3)),
        (torch.zeros(2, 3), torch.ones(2, 1)),
    ],
)
def test_other_shapes_are_refused(deltas: torch.Tensor, counts: torch.Tensor) -> None:
    with pytest.raises(DataError, match="one client or more"):
        fedavg(deltas, counts)


@pytest.mark.parametrize("count", [0, -1])
def test_a_client_without_examples_is_refused(count: int) -> None:
    with pytest.raises(DataError, match="at least one example"):
        fedavg(DELTAS, torch.tensor([5, count]))


def test_a_mean_of_no_clients_is_refused() -> None:
    with pytest.raises(DataError, match="one client or more"):
        uniform_fedavg(torch.zeros(0, 3))


EVERYWHERE = torch.ones(2, dtype=torch.bool)


def test_a_long_update_is_scaled_down_to_the_median_norm() -> None:
    deltas = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, -50.0]])  # norms 5, 1 and 50

    assert norm_bounded(deltas, EVERYWHERE).tolist() == pytest.approx([3 / 3, (4 + 1 - 5) / 3], abs=1e-6)


def test_the_norm_is_over_the_counted_places_and_the_others_are_scaled_too() -> None:
    deltas = torch.tensor([[1.0, 90.0], [1.0, 0.0], [10.0, 10.0]])

    assert norm_bounded(deltas, torch.tensor([True, False])).tolist() == pytest.approx([1.0, 91 / 3])


def test_amplification_beyond_the_bound_changes_nothing() -> None:
    deltas = torch.randn(10, 7, generator=torch.Generator().manual_seed(0))
    amplified = deltas.clone()
    deltas[0] *= 100
    amplified[0] *= 1e6
    everywhere = torch.ones(7, dtype=torch.bool)

    torch.testing.assert_close(norm_bounded(amplified, everywhere), norm_bounded(deltas, everywhere))


def test_updates_of_zeros_and_ones_that_are_not_finite_are_no_trouble() -> None:
    deltas = torch.tensor([[0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0], [2.0, 0.0]])

    assert norm_bounded(deltas, EVERYWHERE).isfinite().all()
    assert norm_bounded(torch.zeros(2, 2), EVERYWHERE).tolist() == [0, 0]
    with pytest.raises(DataError, match="no client's update is finite"):
        norm_bounded(deltas[1:3], EVERYWHERE)
