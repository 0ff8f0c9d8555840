import pytest
import torch
from scipy.stats import trim_mean

from fedmend.aggregation import fedavg, trimmed_mean, uniform_fedavg
from fedmend.errors import ConfigError, DataError

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


FIVE = torch.tensor([[1.0, 50.0], [2.0, -60.0], [3.0, 1.0], [-900.0, 2.0], [900.0, 3.0]])


def test_trimmed_by_hand() -> None:
    assert trimmed_mean(FIVE, 0.2).tolist() == pytest.approx([2.0, 2.0])
    assert trimmed_mean(FIVE, 0.4).tolist() == pytest.approx([2.0, 2.0])  # the median
    torch.testing.assert_close(trimmed_mean(FIVE, 0.0), uniform_fedavg(FIVE))


def test_trimmed_is_what_scipy_says() -> None:
    deltas = torch.randn(10, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = trim_mean(deltas.numpy(), 0.2, axis=0)
    assert trimmed_mean(deltas, 0.2).tolist() == pytest.approx(expected.tolist())


def test_a_share_of_a_client_counts_as_one_and_one_stays_always() -> None:
    assert trimmed_mean(FIVE, 0.01).tolist() == pytest.approx([2.0, 2.0])
    assert trimmed_mean(FIVE[:2], 0.49).tolist() == pytest.approx([1.5, -5.0])
    assert trimmed_mean(FIVE[:1], 0.49).tolist() == [1.0, 50.0]


def test_amplification_beyond_the_others_changes_nothing() -> None:
    deltas = torch.randn(10, 7, generator=torch.Generator().manual_seed(0))
    amplified = deltas.clone()
    deltas[0] *= 1e3
    amplified[0] *= 1e6
    assert torch.equal(trimmed_mean(amplified, 0.2), trimmed_mean(deltas, 0.2))


def test_updates_that_are_not_finite_are_left_out() -> None:
    damaged = torch.tensor([[float("nan"), 1.0], [float("inf"), 1.0], [2.0, 0.0]])
    assert trimmed_mean(damaged, 0.2).tolist() == [2.0, 0.0]
    with pytest.raises(DataError, match="no client's update is finite"):
        trimmed_mean(damaged[:2], 0.2)


@pytest.mark.parametrize("trim", [-0.1, 0.5, float("nan")])
def test_a_trim_out_of_range_is_refused(trim: float) -> None:
    with pytest.raises(ConfigError, match="trim"):
        trimmed_mean(FIVE, trim)
