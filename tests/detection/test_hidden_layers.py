"""Layers in the order in which they run, whatever the order in which they were made."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fedmend.detection.hidden_layers import last_hidden_activations, layers_in_order, outputs_of
from fedmend.errors import ModelError

IMAGES = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Reversed(nn.Module):
    """The head is made first and runs last; one layer never runs, another twice."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.unused = nn.Linear(2, 2)
        self.body = nn.Conv2d(1, 2, 3, padding=1)
        self.twice = nn.Conv2d(2, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        found = self.twice(self.twice(self.body(images)).relu())
        return self.head(nn.functional.avg_pool2d(found, 2).flatten(1))


class Functional(nn.Module):
    """No layer is a module."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 16))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T


class ConvolutionHead(nn.Module):
    """A 1x1 convolution gives the logits, averaged over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(1, 5, 1), nn.Conv2d(5, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images)).mean((2, 3))


def test_layers_come_in_the_order_in_which_they_run() -> None:
    assert layers_in_order(Reversed(), IMAGES[:1]) == ("body", "twice", "head")


def test_a_model_without_layers_is_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match="runs no linear or convolution layer of torch"):
        layers_in_order(Functional(), IMAGES[:1])


def test_the_last_hidden_activations_are_what_the_head_is_given() -> None:
    net = Reversed().eval()
    found = last_hidden_activations(net, IMAGES)
    assert (found.shape, found.dtype) == ((3, 8), torch.float64)
    assert torch.allclose(net.head(found.float()), net(IMAGES), atol=1e-6)
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_before_a_convolution_positions_are_averaged() -> None:
    net = ConvolutionHead().eval()
    found = last_hidden_activations(net, IMAGES)
    assert torch.allclose(found.float(), net.body(IMAGES).mean((2, 3)), atol=1e-6)


def test_activations_that_are_no_numbers_are_refused() -> None:
    net = Reversed()
    with torch.no_grad():
        net.body.bias[0] = float("nan")
    with pytest.raises(ModelError, match="inputs of the suspect's layer 'head' are NaN"):
        last_hidden_activations(net, IMAGES)


def test_outputs_are_kept_channels_first() -> None:
    net = Reversed().eval()
    with outputs_of(net, ["body", "head"]) as outputs:
        logits = net(IMAGES)
        assert outputs["body"].shape == (3, 2, 16)
        assert torch.equal(outputs["head"].squeeze(2), logits)
    assert not any(module._forward_hooks for module in net.modules())


class Windows(nn.Module):
    """Halves of an image are rows of their own to a linear layer, as windows of a transformer are."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(8, 5), nn.Linear(10, 3)

    def forward(self, images: Tensor) -> Tensor:
        halves = self.body(images.reshape(-1, 8))
        return self.head(halves.reshape(len(images), 10))


class Mixed(nn.Module):
    """A layer is given one row more than there are images."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(16, 3), nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return self.head(self.body(torch.cat([flat, flat[:1]]))[:-1])


def test_parts_of_an_image_are_joined() -> None:
    net = Windows().eval()
    with outputs_of(net, ["body"]) as outputs:
        net(IMAGES)
        direct = nn.functional.linear(IMAGES[1].flatten()[8:], net.body.weight, net.body.bias)
        assert outputs["body"].shape == (3, 5, 2)
        assert torch.allclose(outputs["body"][1, :, 1], direct)
    assert last_hidden_activations(net, IMAGES).shape == (3, 10)


def test_rows_that_belong_to_no_image_are_refused() -> None:
    net = Mixed().eval()
    with outputs_of(net, ["body"]), pytest.raises(ModelError, match="layer 'body' has 4 rows for 3 images"):
        net(IMAGES)
