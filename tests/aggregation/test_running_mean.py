import pytest
import torch

from fedmend.aggregation import RunningMean, UniformFedAvg, Updates, weighted_mean
from fedmend.errors import ConfigError, DataError

DELTAS = torch.tensor([[3.0, 4.0, 9.0], [0.0, 1.0, 6.0]])
PARAMETERS = torch.tensor([True, True, False])


def test_it_is_the_mean_of_all_that_came() -> None:
    mean = RunningMean(PARAMETERS)
    for delta, weight in zip(DELTAS, (1, 3), strict=True):
        assert mean.add(delta, weight)
    torch.testing.assert_close(mean.result(), weighted_mean(DELTAS, torch.tensor([1, 3])))


def test_clipping_by_hand_leaves_buffers() -> None:
    mean = RunningMean(PARAMETERS, limit=2.5)
    assert all(map(mean.add, DELTAS))
    torch.testing.assert_close(mean.result(), torch.tensor([0.75, 1.5, 7.5]))


def test_what_is_not_finite_is_left_out() -> None:
    mean = RunningMean(PARAMETERS)
    with pytest.raises(DataError, match="no client's update is finite"):
        mean.result()
    assert not mean.add(torch.tensor([0.0, torch.nan, 0.0]))
    assert mean.add(DELTAS[0])
    assert torch.equal(mean.result(), DELTAS[0])


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="limit"):
        RunningMean(PARAMETERS, limit=0.0)
    with pytest.raises(DataError, match=r"an update of 3 values; got shape \(2,\)"):
        RunningMean(PARAMETERS).add(DELTAS[0, :2])
    with pytest.raises(ConfigError, match="weight"):
        RunningMean(PARAMETERS).add(DELTAS[0], 0)


def test_a_thousand_small_updates_add_up_as_in_one_matrix() -> None:
    deltas = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    mean = RunningMean(PARAMETERS)
    assert all(map(mean.add, deltas))
    expected, _ = UniformFedAvg()(Updates(deltas, torch.ones(1000), tuple(range(1000)), PARAMETERS), {})
    torch.testing.assert_close(mean.result(), expected)
