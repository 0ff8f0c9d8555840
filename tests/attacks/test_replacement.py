import pytest
import torch
from torch import Tensor, nn

from fedmend.aggregation import uniform_mean
from fedmend.attacks import Amplify, UpdateContext
from fedmend.errors import ConfigError
from fedmend.parameters import flatten, parameter_mask, unflatten


def amplify(delta: Tensor, factor: float, parameters: Tensor) -> Tensor:
    return Amplify(factor)(delta, UpdateContext(parameters, torch.zeros_like(delta), seed=0))


def test_parameters_are_multiplied_and_buffers_are_not() -> None:
    delta = torch.tensor([1.0, -2.0, 3.0, 4.0])
    mask = torch.tensor([True, True, False, True])
    assert amplify(delta, 2.5, mask).tolist() == [2.5, -5.0, 3.0, 10.0]
    assert delta.tolist() == [1.0, -2.0, 3.0, 4.0]


def test_a_factor_of_one_changes_nothing() -> None:
    delta = torch.randn(10)
    assert torch.equal(amplify(delta, 1.0, torch.ones(10, dtype=torch.bool)), delta)


def test_a_factor_of_the_number_of_clients_replaces_the_model() -> None:
    # Appendix A: when nobody else changes anything, n times its update makes the mean the attacker's model.
    attacker = torch.tensor([0.3, -0.7])
    others = torch.zeros(4, 2)
    boosted = amplify(attacker, 5, torch.ones(2, dtype=torch.bool))
    assert torch.allclose(uniform_mean(torch.cat([boosted[None], others])), attacker)


def test_batch_statistics_stay_usable() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = flatten(model.state_dict())
    model[1].running_var.fill_(0.1)
    model[1].running_mean.fill_(2.0)
    model[0].weight.data += 1
    delta = flatten(model.state_dict()) - before
    state = unflatten(before + amplify(delta, 20, parameter_mask(model)), model.state_dict())
    assert torch.allclose(state["1.running_var"], torch.tensor(0.1))
    assert torch.allclose(state["1.running_mean"], torch.tensor(2.0))
    assert torch.allclose(state["0.weight"], model[0].weight + 19, atol=1e-5)


@pytest.mark.parametrize("factor", [0.99, 0.0, -3.0])
def test_a_factor_under_one_is_refused(factor: float) -> None:
    with pytest.raises(ConfigError, match="greater than or equal to 1"):
        Amplify(factor)
