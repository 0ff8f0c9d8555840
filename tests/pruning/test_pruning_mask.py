from collections.abc import Callable, Iterable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmend.errors import ConfigError
from fedmend.pruning import channel_mask, held, join_masks, locate, set_to_zero
from fedmend.seeds import generator

PIXELS = torch.rand(24, 1, 8, 8, generator=generator(0))
LABELS = torch.arange(24) % 3


def net() -> nn.Sequential:
    """Its nonlinearity has a slope at 0, unlike ReLU: a pruned channel gets a gradient."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.GroupNorm(2, 4),
            nn.LeakyReLU(),
            nn.Flatten(),
            nn.Linear(144, 3),
        )


def hooks(model: nn.Module) -> int:
    return sum(len(parameter._backward_hooks or {}) for parameter in model.parameters())


def test_channels_with_their_biases_and_normalisations() -> None:
    zeros = channel_mask(locate(net(), PIXELS), [2, 0, 2])
    kinds = [f"{layer}.{kind}" for layer in (0, 1, 2) for kind in ("weight", "bias")]
    assert list(zeros) == kinds
    for name, zero in zeros.items():
        assert zero.dtype == torch.bool
        assert zero.shape == net().get_parameter(name).shape
        assert [bool(channel.all()) for channel in zero] == [True, False, True, False]
        assert [bool(channel.any()) for channel in zero] == [True, False, True, False]


def test_without_a_bias_or_a_normalisation_the_weights_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.ReLU())
    zeros = channel_mask(locate(model, PIXELS), [3])
    assert list(zeros) == ["0.weight"]
    assert int(zeros["0.weight"].sum()) == 9


def test_no_channel_is_nothing() -> None:
    zeros = channel_mask(locate(net(), PIXELS), [])
    assert not any(bool(zero.any()) for zero in zeros.values())


def test_a_pruned_channel_is_dormant_whatever_the_images() -> None:
    model = net()
    model[1].bias.data.fill_(0.7)
    model[2].bias.data.fill_(0.3)
    set_to_zero(model, channel_mask(locate(model, PIXELS), [1, 3]))
    for mode in (True, False):
        activations = model.train(mode)[:4](PIXELS)
        assert not activations[:, [1, 3]].any()
        assert bool(activations[:, [0, 2]].any((0, 2, 3)).all())


@pytest.mark.parametrize("channels", [[-1], [4], [0, 4], [-1, 2]])
def test_a_channel_that_is_not_there_is_refused(channels: list[int]) -> None:
    with pytest.raises(
        ConfigError, match=f"channels of 0 are 0 to 3; got {min(channels)} to {max(channels)}"
    ):
        channel_mask(locate(net(), PIXELS), channels)


def test_one_channel_is_left_at_least() -> None:
    channel_mask(locate(net(), PIXELS), [0, 1, 2])
    with pytest.raises(ConfigError, match="can't prune all 4 channels of 0"):
        channel_mask(locate(net(), PIXELS), [3, 1, 2, 0])


def test_a_union_by_hand() -> None:
    first = {"a": torch.tensor([True, False, False]), "b": torch.tensor([True])}
    second = {"a": torch.tensor([False, True, False]), "c": torch.tensor([False])}
    both = join_masks(first, second)
    assert {name: zero.tolist() for name, zero in both.items()} == {
        "a": [True, True, False],
        "b": [True],
        "c": [False],
    }
    assert first["a"].tolist() == [True, False, False]
    assert second["a"].tolist() == [False, True, False]
    assert join_masks() == {}


def test_setting_to_zero_leaves_everything_else() -> None:
    model = net()
    before = deepcopy(model.state_dict())
    zeros = channel_mask(locate(model, PIXELS), [1])
    set_to_zero(model, zeros)
    for name, value in model.state_dict().items():
        expected = before[name].clone()
        if name in zeros:
            expected[1] = 0
        assert torch.equal(value, expected)
    assert all(parameter.requires_grad for parameter in model.parameters())
    set_to_zero(model, {})
    assert torch.equal(model[1].weight, torch.tensor([1.0, 0.0, 1.0, 1.0]))


def trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for batch, labels in zip(PIXELS.split(8), LABELS.split(8), strict=True):
        optimizer.zero_grad()
        cross_entropy(model(batch), labels).backward()
        optimizer.step()


Make = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=0.01),
        lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, nesterov=True, fused=True),
        lambda parameters: torch.optim.Adam(parameters, 0.01, weight_decay=0.01),
        lambda parameters: torch.optim.AdamW(parameters, 0.01, weight_decay=0.01, amsgrad=True),
    ],
    ids=["SGD", "Nesterov", "Adam", "AdamW"],
)
def test_what_is_zero_stays_so_while_the_rest_learns(make: Make) -> None:
    model = net()
    single = torch.zeros(3, 144, dtype=torch.bool)
    single[1, 5:9] = True
    zeros = join_masks(channel_mask(locate(model, PIXELS), [1, 3]), {"5.weight": single})
    set_to_zero(model, zeros)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with held(model, zeros):
        trained(model, make(model.parameters()))
    for name, parameter in model.named_parameters():
        dead = zeros.get(name, torch.zeros_like(parameter, dtype=torch.bool))
        assert not parameter[dead].any()
        # A convolution's bias means nothing before a normalisation over the batch.
        assert name == "0.bias" or bool((parameter != before[name])[~dead].any())
        assert bool(torch.isfinite(parameter).all())


def test_without_being_held_it_would_grow_again() -> None:
    model = net()
    zeros = channel_mask(locate(model, PIXELS), [1])
    set_to_zero(model, zeros)
    trained(model, torch.optim.SGD(model.parameters(), 0.1))
    assert bool(model[2].bias[1] != 0)


def test_a_gradient_that_is_not_a_number_counts_as_none() -> None:
    model = nn.Linear(2, 1, bias=False)
    with held(model, {"weight": torch.tensor([[True, False]])}):
        (model(torch.tensor([[float("nan"), 1.0]])).sum() * 2).backward()
    assert model.weight.grad is not None
    assert model.weight.grad.tolist() == [[0.0, 2.0]]


def test_afterwards_the_model_is_free_again() -> None:
    model = net()
    zeros = channel_mask(locate(model, PIXELS), [1])
    with held(model, zeros):
        assert hooks(model) == 6
        with held(model, {"0.weight": zeros["0.weight"]}):
            assert hooks(model) == 7
        assert hooks(model) == 6
    assert hooks(model) == 0
    with pytest.raises(KeyboardInterrupt), held(model, zeros):
        raise KeyboardInterrupt
    assert hooks(model) == 0
    with held(model, {}):
        assert hooks(model) == 0


def test_frozen_parameters_are_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(192, 2))
    model[0].weight.requires_grad_(False)
    zeros = channel_mask(locate(model, torch.rand(1, 1, 10, 10)), [1])
    with held(model, zeros):
        model(torch.rand(2, 1, 10, 10)).sum().backward()
    assert bool((model[0].bias.grad[1] == 0).all())


def test_hooks_go_away_when_a_name_is_wrong() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1))
    with (
        pytest.raises(AttributeError),
        held(model, {"0.weight": torch.ones(1, 1, 1, 1).bool(), "9.weight": torch.ones(1)}),
    ):
        pass
    model(torch.ones(1, 1, 2, 2)).sum().backward()
    assert float(model[0].weight.grad) == 4
