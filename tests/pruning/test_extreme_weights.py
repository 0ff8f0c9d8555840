from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from fedmend.errors import ConfigError
from fedmend.pruning import adjusted, choose_delta, is_extreme, set_to_zero
from fedmend.pruning.extreme_weights import DELTAS

# Mean 1 and standard deviation 2: 7 lies three of these above the mean, and -1 one of them below.
WEIGHTS = torch.tensor([[1.0, 1.0, 7.0, 1.0], [1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, 1.0, 1.0]])


def net(weights: Tensor = WEIGHTS) -> nn.Sequential:
    model = nn.Sequential(nn.ReLU(), nn.Linear(weights.shape[1], len(weights)), nn.Linear(3, 3))
    with torch.no_grad():
        model[1].weight.copy_(weights)
        model[1].bias.fill_(100.0)
    return model


@pytest.mark.parametrize(
    ("delta", "values"),
    [(5.0, []), (3.0, []), (2.9, [7.0]), (1.0, [7.0]), (0.9, [-1.0, -1.0, -1.0, 7.0])],
)
def test_by_hand(delta: float, values: list[float]) -> None:
    """What lies exactly on the border isn't beyond it."""
    for live_only in (True, False):
        extreme = is_extreme(WEIGHTS, delta, live_only=live_only)
        assert (extreme.dtype, extreme.shape) == (torch.bool, WEIGHTS.shape)
        assert sorted(WEIGHTS[extreme].tolist()) == values


def test_pruned_weights_do_not_narrow_the_range() -> None:
    """With 36 zeros beside these 12 weights the mean is 1 / 4 and the variance 19 / 16: 7 is beyond six deviations."""
    weights = torch.cat([torch.zeros(3, 12), WEIGHTS.reshape(1, 12)])
    assert float(weights.var(correction=0)) == pytest.approx(19 / 16)
    assert not is_extreme(weights, 3.0).any()
    assert not is_extreme(weights, 3.0, live_only=True).any()
    assert weights[is_extreme(weights, 3.0, live_only=False)].tolist() == [7.0]
    assert weights[is_extreme(weights, 6.0, live_only=False)].tolist() == [7.0]
    assert not is_extreme(weights, 6.2, live_only=False).any()


@pytest.mark.parametrize("weights", [[0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [4.0, 4.0, 4.0], [2.0]])
def test_what_has_no_spread_has_no_extremes(weights: list[float]) -> None:
    assert not is_extreme(torch.tensor(weights), 0.1)[torch.tensor(weights) != 0].any()


def test_an_adjusted_copy_and_what_was_set_to_zero() -> None:
    model = net().train()
    model[2].eval()
    before = deepcopy(model.state_dict())
    copy, zeros = adjusted(model, "1", 2.0)
    assert list(zeros) == ["1.weight"]
    assert zeros["1.weight"].nonzero().tolist() == [[0, 2]]
    expected = WEIGHTS.clone()
    expected[0, 2] = 0
    for name, value in copy.state_dict().items():
        assert torch.equal(value, expected if name == "1.weight" else before[name])
    assert [module.training for module in copy.modules()] == [True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not {value.data_ptr() for value in copy.parameters()} & {
        value.data_ptr() for value in model.parameters()
    }


def test_adjusting_after_pruning() -> None:
    model = net(torch.cat([WEIGHTS.reshape(1, 12), torch.ones(2, 12)]))
    set_to_zero(model, {"1.weight": torch.tensor([[False], [True], [True]]).expand(3, 12)})
    copy, zeros = adjusted(model, "1", 2.9)
    assert zeros["1.weight"].nonzero().tolist() == [[0, 2]]
    assert int((copy[1].weight == 0).sum()) == 25  # type: ignore[index]
    assert not adjusted(model, "1", 3.0)[1]["1.weight"].any()
    assert int(adjusted(model, "1", 3.0, live_only=False)[1]["1.weight"].sum()) == 1


def accuracy_of(model: nn.Module) -> float:
    """Without the 7 half a point is lost, and without the -1s another ten."""
    weight = model.get_parameter("1.weight")
    return 0.9 - 0.005 * float(weight[0, 2] == 0) - 0.1 * float(weight[1, 1] == 0)


@pytest.mark.parametrize(
    ("max_drop", "delta"), [(0.0, 3.0), (0.004, 3.0), (0.005, 1.0), (0.01, 1.0), (0.104, 1.0), (0.105, 0.5)]
)
def test_the_lowest_delta_by_hand(max_drop: float, delta: float) -> None:
    model = net()
    before = deepcopy(model.state_dict())
    assert choose_delta(model, "1", accuracy_of, max_drop=max_drop) == delta
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_it_stops_at_the_first_drop_and_takes_deltas_in_any_order() -> None:
    asked: list[float] = []

    def asking(model: nn.Module) -> float:
        asked.append(float(model.get_parameter("1.weight").detach().abs().sum()))
        return accuracy_of(model)

    assert choose_delta(net(), "1", asking, deltas=(0.9, 4.0, 0.5, 2.0)) == 2.0
    assert asked == [18.0, 18.0, 11.0, 8.0]  # the model itself, then 4, 2 and 0.9


def test_mean_and_deviation_can_be_over_all_weights() -> None:
    model = net(torch.cat([WEIGHTS.reshape(1, 12), torch.zeros(2, 12)]))
    deltas = (4.0, 3.0)

    def seven_counts(candidate: nn.Module) -> float:
        return float(candidate.get_parameter("1.weight")[0, 2] != 0)

    assert choose_delta(model, "1", seven_counts, deltas=(6.0, *deltas)) == 3.0
    assert choose_delta(model, "1", seven_counts, deltas=(6.0, *deltas), live_only=False) == 6.0


def test_deltas_go_from_five_down_to_a_half() -> None:
    assert (DELTAS[0], DELTAS[-1], len(DELTAS)) == (5, 0.5, 19)
    assert list(DELTAS) == sorted(DELTAS, reverse=True)


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan")])
def test_a_delta_out_of_range_is_refused(delta: float) -> None:
    with pytest.raises(ConfigError, match="delta must be above 0"):
        is_extreme(WEIGHTS, delta)
    with pytest.raises(ConfigError, match="delta must be above 0"):
        adjusted(net(), "1", delta)


def test_no_delta_is_low_enough_where_the_largest_costs_too_much() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 10))
    model[0].weight.data.fill_(0.1).view(-1)[0] = 50.0
    delta = choose_delta(model, "0", lambda one: float(one[0].weight.detach().max() > 1))
    assert delta == float("inf")
    assert torch.equal(adjusted(model, "0", delta)[0][0].weight, model[0].weight)
