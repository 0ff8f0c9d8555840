from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.attacks import Amplify, Attack, Poisoning
from fedmend.attacks.pruning_aware import without_dormant_channels
from fedmend.errors import ModelError
from fedmend.goals import AllToOne
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten, unflatten
from fedmend.triggers import Atoms

Net = Callable[[], nn.Sequential]
Clean = tuple[Tensor, Tensor]

AREA = planted.SIDE**2
TRAINING = LocalTraining(epochs=2, batch_size=8, optimizer="sgd", lr=0.05)


def without_dropout(net: Net) -> nn.Sequential:
    """And with a slope below 0, unlike ReLU's, so that what isn't held at zero grows."""
    model = net()
    model[2], model[3] = nn.LeakyReLU(), nn.Dropout(0.0)
    return model


def dormant_half(model: nn.Sequential, images: Tensor) -> list[int]:
    with torch.no_grad():
        means = deepcopy(model).eval()[:3](images / 255).mean((0, 2, 3))
    return sorted(range(4), key=lambda channel: float(means[channel]))[:2]


def test_it_trains_a_net_without_the_dormant_half(net: Net, clean: Clean) -> None:
    """The oracle is a net of two channels, with the weights of those that the attacker keeps."""
    model = without_dropout(net)
    kept = [channel for channel in range(4) if channel not in dormant_half(model, clean[0])]
    columns = torch.arange(4 * AREA).view(4, AREA)[kept].flatten()
    small = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.LeakyReLU(), nn.Flatten(), nn.Linear(2 * AREA, 4)
    )
    for part in (0, 1):
        for name, value in small[part].named_parameters():
            value.data.copy_(model[part].get_parameter(name).data[kept])
    small[4].weight.data.copy_(model[5].weight.data[:, columns])
    small[4].bias.data.copy_(model[5].bias.data)

    with without_dormant_channels(model, clean[0]):
        TRAINING(model, *clean, seed=4)
    TRAINING(small, *clean, seed=4)
    for part in (0, 1):
        for name, value in small[part].named_parameters():
            assert torch.allclose(model[part].get_parameter(name)[kept], value, atol=1e-5)
    assert torch.allclose(model[5].weight[:, columns], small[4].weight, atol=1e-5)
    assert torch.allclose(model[5].bias, small[4].bias, atol=1e-5)


def test_the_dormant_half_is_zero_within_and_back_afterwards(net: Net, clean: Clean) -> None:
    """Its statistics, too: those over channels of zeros would break them once their weights are back."""
    model = net()
    before, dormant = deepcopy(model.state_dict()), dormant_half(model, clean[0])
    with without_dormant_channels(model, clean[0]):
        for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
            assert int(model.state_dict()[name][dormant].count_nonzero()) == 0
        TRAINING(model, *clean, seed=4)
        assert not torch.equal(model[1].running_var[dormant], before["1.running_var"][dormant])
    after = model.state_dict()
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
        assert torch.equal(after[name][dormant], before[name][dormant]), name
    assert not torch.equal(after["0.weight"], before["0.weight"])
    assert all(not parameter._backward_hooks for parameter in model.parameters())


def test_a_whole_attack_leaves_the_dormant_half_as_it_is(net: Net, clean: Clean) -> None:
    model = without_dropout(net)
    before, dormant = deepcopy(model.state_dict()), dormant_half(model, clean[0])
    trigger = Atoms("1", (1, planted.SIDE, planted.SIDE), top=0, left=0, gap=1)
    attack = Attack(
        Poisoning(trigger, AllToOne(1), 0.5), (Amplify(5),), keep_predictions=True, pruning_aware=True
    )
    after = unflatten(flatten(before) + attack.fit(model, *clean, TRAINING, seed=4), before)
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        assert torch.equal(after[name][dormant], before[name][dormant])
    last = "5.weight"  # held channels feed zeros into it, so their columns get no gradient
    assert torch.equal(after[last].view(4, 4, -1)[:, dormant], before[last].view(4, 4, -1)[:, dormant])
    assert not torch.equal(after["0.weight"], before["0.weight"])


def test_a_model_without_convolutions_is_refused(clean: Clean) -> None:
    with (
        pytest.raises(ModelError, match="no convolution"),
        without_dormant_channels(nn.Sequential(nn.Flatten(), nn.Linear(AREA, 4)), clean[0]),
    ):
        pass
