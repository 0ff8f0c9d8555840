import pytest
import torch
from scipy.stats import trim_mean

from fedmend.aggregation import TrimmedMean, mean_between, uniform_mean
from fedmend.errors import ConfigError, DataError

FIVE = torch.tensor([[1.0, 50.0], [2.0, -60.0], [3.0, 1.0], [-900.0, 2.0], [900.0, 3.0]])


def test_by_hand() -> None:
    assert mean_between(FIVE, 0.2).tolist() == pytest.approx([2.0, 2.0])
    assert mean_between(FIVE, 0.4).tolist() == pytest.approx([2.0, 2.0])  # the median
    torch.testing.assert_close(mean_between(FIVE, 0.0), uniform_mean(FIVE))


def test_it_is_what_scipy_says() -> None:
    deltas = torch.randn(10, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = trim_mean(deltas.numpy(), 0.2, axis=0)
    assert mean_between(deltas, 0.2).tolist() == pytest.approx(expected.tolist())


def test_a_fraction_of_a_client_counts_as_one_and_one_always_remains() -> None:
    assert mean_between(FIVE, 0.01).tolist() == pytest.approx([2.0, 2.0])
    assert mean_between(FIVE[:2], 0.49).tolist() == pytest.approx([1.5, -5.0])
    assert mean_between(FIVE[:1], 0.49).tolist() == [1.0, 50.0]


def test_amplification_beyond_the_others_changes_nothing() -> None:
    deltas = torch.randn(10, 7, generator=torch.Generator().manual_seed(0))
    amplified = deltas.clone()
    deltas[0] *= 1e3
    amplified[0] *= 1e6
    assert torch.equal(mean_between(amplified, 0.2), mean_between(deltas, 0.2))


def test_updates_that_are_not_finite_are_left_out() -> None:
    damaged = torch.tensor([[float("nan"), 1.0], [float("inf"), 1.0], [2.0, 0.0]])
    assert mean_between(damaged, 0.2).tolist() == [2.0, 0.0]
    with pytest.raises(DataError, match="no client's update is finite"):
        mean_between(damaged[:2], 0.2)


@pytest.mark.parametrize("trim", [-0.1, 0.5, float("nan"), "0.2"])
def test_a_trim_out_of_range_is_refused(trim: float) -> None:
    with pytest.raises(ConfigError, match="trim"):
        TrimmedMean(trim=trim)
