from copy import deepcopy

import pytest
import torch
from torch import nn

from fedmend.errors import ConfigError, DataError, ModelError
from fedmend.models import build_model
from fedmend.models.two_conv_net import TwoConv
from fedmend.parameters import flatten
from fedmend.pruning import channel_mask, locate, remove_channels, set_to_zero
from fedmend.seeds import generator

IMAGES = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8, generator=generator(0))


def pruned(model: nn.Module, channels: list[int]) -> nn.Module:
    set_to_zero(model, channel_mask(locate(model, IMAGES), channels))
    return model.eval()


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_smaller_model_gives_the_same_answers(batch_norm: bool) -> None:
    torch.manual_seed(0)
    model = pruned(TwoConv((8, 16), 32, batch_norm=batch_norm), [0, 3, 15])
    model.conv1.weight.requires_grad_(False)
    before = flatten(model.state_dict())
    small = remove_channels(model, [0, 3, 15], IMAGES)
    assert small.conv2.weight.shape == (13, 8, 5, 5)
    assert small.fc1.weight.shape == (32, 13 * 16)
    with torch.no_grad():
        assert torch.allclose(small(IMAGES / 255), model(IMAGES / 255), atol=1e-5)
    assert torch.equal(flatten(model.state_dict()), before)
    assert not small.conv1.weight.requires_grad
    assert small.fc1.weight.requires_grad


def test_three_convolutions() -> None:
    model = build_model("three-conv", num_classes=10, in_channels=1, image_size=(28, 28), seed=0)
    small = remove_channels(pruned(model, list(range(40))), list(range(40)), IMAGES)
    assert sum(map(torch.numel, small.parameters())) < 0.5 * sum(map(torch.numel, model.parameters()))


def test_a_shortcut_is_in_the_way() -> None:
    model = build_model("resnet18", num_classes=10, in_channels=1, image_size=(28, 28), seed=0)
    model = pruned(model, [1])
    twin = deepcopy(model)
    with pytest.raises(ModelError, match="tied to them"):
        remove_channels(model, [1], IMAGES)
    assert torch.equal(flatten(model.state_dict()), flatten(twin.state_dict()))


def test_only_pruned_channels_are_removed() -> None:
    model = build_model("two-conv-8-16", num_classes=10, in_channels=1, image_size=(28, 28), seed=0)
    with pytest.raises(ModelError, match=r"aren't pruned: conv2\.weight isn't zero there"):
        remove_channels(model, [2], IMAGES)
    with pytest.raises(ConfigError, match="can't prune all 16 channels"):
        remove_channels(model, range(16), IMAGES)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch_pruning", None)
    with pytest.raises(ConfigError, match=r"fedmend\[slim\]"):
        remove_channels(nn.Conv2d(1, 2, 3), [0], IMAGES)


def test_without_images_nothing_could_be_compared() -> None:
    with pytest.raises(DataError, match="at least one image"):
        remove_channels(nn.Conv2d(1, 2, 3), [0], IMAGES[:0])
