from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from fedmend.errors import ModelError
from fedmend.pruning.tail import Tail
from fedmend.seeds import generator

PIXELS = torch.rand(6, 1, 10, 10, generator=generator(0))


class Shortcut(nn.Module):
    """What the lower layers made is used again above the convolution, and changed in place there."""

    def __init__(self, traceable: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.relu, self.head = nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Linear(256, 3)
        self.traceable = traceable

    def forward(self, pixels: Tensor, scale: float = 1.0) -> Tensor:
        if not self.traceable and pixels.mean() > 2:
            pixels = pixels / 2
        way = self.relu(self.first(pixels))
        above = self.relu(self.norm(self.second(way)))
        way.add_(above * scale)
        logits: Tensor = self.head(way.flatten(1))
        return logits


def made(traceable: bool) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Shortcut(traceable)
        model.norm.bias.data.fill_(0.5)
        return model.eval()


both_ways = pytest.mark.parametrize("traceable", [True, False])


@both_ways
@torch.no_grad()
def test_without_pruning_it_gives_the_models_answers(traceable: bool) -> None:
    model = made(traceable)
    tail = Tail(deepcopy(model), "second", ["norm"], PIXELS)
    assert torch.equal(tail.activations, model.second(model.relu(model.first(PIXELS))))
    assert torch.equal(tail.logits(), model(PIXELS))


@both_ways
@torch.no_grad()
def test_what_changes_its_input_in_place_does_not_spoil_the_next_run(traceable: bool) -> None:
    tail = Tail(made(traceable), "second", ["norm"], PIXELS)
    copy = tail.activations.clone()
    first = tail.logits()
    assert torch.equal(tail.activations, copy)
    assert torch.equal(tail.logits(), first)
    tail.prune([])
    assert torch.equal(tail.logits(), first)


class Deciding(nn.Sequential):
    """Can't be traced."""

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = super().forward(pixels / 2 if pixels.mean() > 2 else pixels)
        return logits


@pytest.mark.parametrize("kind", [nn.Sequential, Deciding])
@pytest.mark.parametrize("inplace", [True, False])
@torch.no_grad()
def test_a_relu_in_place_right_after_the_convolution(inplace: bool, kind: type[nn.Sequential]) -> None:
    convolution, head = nn.Conv2d(1, 3, 3), nn.Linear(192, 2)
    tail = Tail(kind(convolution, nn.ReLU(inplace=inplace), nn.Flatten(), deepcopy(head)), "0", [], PIXELS)
    assert bool((tail.activations < 0).any())
    tail.logits()
    assert torch.equal(tail.activations, convolution(PIXELS))
    for channels, left in (([2], [0, 1]), ([0], [1])):
        tail.prune(channels)
        alive = torch.zeros_like(tail.activations)
        alive[:, left] = convolution(PIXELS)[:, left].relu()
        for _ in range(2):
            assert torch.allclose(tail.logits(), head(alive.flatten(1)))


@both_ways
@torch.no_grad()
def test_pruning_goes_on_from_what_is_pruned_already(traceable: bool) -> None:
    model = made(traceable)
    tail = Tail(deepcopy(model), "second", ["norm"], PIXELS)
    for channel in (2, 0, 3):
        tail.prune([channel])
        for part in (model.second, model.norm):
            part.weight[channel] = 0
            part.bias[channel] = 0
        assert torch.equal(tail.logits(), model(PIXELS))


@both_ways
@torch.no_grad()
def test_another_batch_starts_afresh(traceable: bool) -> None:
    model = made(traceable)
    Tail(model, "second", ["norm"], PIXELS).logits()
    other = PIXELS[:2].flip(3)
    assert torch.equal(Tail(model, "second", ["norm"], other).logits(), model(other))


@torch.no_grad()
def test_only_what_can_be_traced_is_cut() -> None:
    """Where it is cut, the first convolution doesn't run again; where it can't be, every time."""
    for traceable, runs in ((True, 0), (False, 3)):
        model, seen = made(traceable), list[int]()
        model.first.register_forward_hook(lambda _module, _inputs, _output, seen=seen: seen.append(1))
        tail = Tail(model, "second", ["norm"], PIXELS)
        seen.clear()
        for _ in range(3):
            tail.logits()
        assert len(seen) == runs


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(3, affine=False), nn.GroupNorm(1, 3, affine=False)])
@torch.no_grad()
def test_a_normalisation_without_parameters_is_refused(norm: nn.Module) -> None:
    tail = Tail(nn.Sequential(nn.Conv2d(1, 3, 3), norm, nn.ReLU()).eval(), "0", ["1"], PIXELS)
    with pytest.raises(ModelError, match=f"before {type(norm).__name__} without affine parameters"):
        tail.prune([0])


class OwnConvolution(nn.Conv2d):
    """torch.fx would trace into it."""


class Guessing(nn.Module):
    """Traces into the branch that tensors don't take."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = OwnConvolution(1, 3, 3), nn.Linear(192, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        if not isinstance(pixels, Tensor):
            pixels = torch.stack(pixels)
        logits: Tensor = self.head(self.convolution(pixels).relu().flatten(1))
        return logits


@torch.no_grad()
def test_what_traces_wrongly_runs_whole() -> None:
    hooked = nn.Sequential(OwnConvolution(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(192, 2))
    hooked.register_forward_pre_hook(lambda _module, inputs: (inputs[0] * 3,))
    for model, layer in ((Guessing(), "convolution"), (hooked, "0")):
        tail = Tail(deepcopy(model), layer, [], PIXELS)
        assert torch.allclose(tail.logits(), model(PIXELS), atol=1e-6)
        tail.prune([1])
        copy = deepcopy(model)
        for parameter in copy.get_submodule(layer).parameters():
            parameter[1] = 0
        assert torch.allclose(tail.logits(), copy(PIXELS), atol=1e-6)


class Twice(nn.Module):
    def __init__(self, traceable: bool) -> None:
        super().__init__()
        self.convolution, self.traceable = nn.Conv2d(1, 1, 3), traceable

    def forward(self, pixels: Tensor) -> Tensor:
        if not self.traceable and pixels.mean() > 2:
            pixels = pixels / 2
        logits: Tensor = self.convolution(self.convolution(pixels)).flatten(1)
        return logits


@both_ways
@torch.no_grad()
def test_a_convolution_that_runs_twice_is_refused(traceable: bool) -> None:
    with pytest.raises(ModelError, match="convolution runs 2 times in one pass"):
        Tail(Twice(traceable), "convolution", [], PIXELS)
