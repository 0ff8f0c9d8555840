"""Stimulated neurons by hand-worked examples."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedmend.detection.stimulation import Neuron, chosen_neurons, compromised, elevations, stimulated

PIXELS = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 1.0]]]])
TRUTH = torch.tensor([0, 1])


def net() -> nn.Module:
    """Two pixels, two hidden neurons that are those pixels, three classes."""
    made = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 3, bias=False))
    made[1].weight.data = torch.eye(2)
    made[3].weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 3.0]])
    return made.eval()


def test_a_rise_is_that_from_zero_to_the_best_level() -> None:
    rises = elevations(net(), "1", PIXELS, 2, largest=1.0)
    assert rises.shape == (2, 2, 3)
    for image in range(2):  # levels up to 4 times the largest value
        assert rises[0, image].tolist() == [4.0, 0.0, 2.0]
        assert rises[1, image].tolist() == [0.0, 4.0, 12.0]


def test_convolutions_are_stimulated_by_channel() -> None:
    made = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2, bias=False))
    made[3].weight.data = torch.tensor([[1.0, 1, 0, 0], [0, 0, 2, 0]])
    rises = elevations(made.eval(), "0", PIXELS, 2, largest=0.5)
    assert rises[0, 0].tolist() == [4.0, 0.0]  # two positions of 4 times 0.5
    assert rises[1, 0].tolist() == [0.0, 4.0]


def test_the_class_raised_most_on_every_other_class_s_images() -> None:
    rises = torch.tensor([[[1.0, 1.0, 2.0], [5.0, 0.0, 3.0]]])
    classes, values = compromised(rises, TRUTH)
    # class 0 counts on the second image, 5; class 1 on the first, 1; class 2 on both, 2
    assert (classes.tolist(), values.tolist()) == ([0], [3.0])


def test_only_the_last_layers_are_stimulated_if_passes_are_few() -> None:
    deep = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 3)).eval()
    told: list[tuple[str, int, int]] = []
    every, none = stimulated(deep, ["1", "2"], PIXELS, TRUTH, 1000, lambda *step: told.append(step))
    assert told == [("stimulating neurons", 4, 10), ("stimulating neurons", 10, 10)]
    assert ({each.layer for each in every}, len(every), none) == ({"1", "2"}, 5, ())
    last, left_out = stimulated(deep, ["1", "2"], PIXELS, TRUTH, 1)
    assert ({each.layer for each in last}, left_out) == ({"2"}, ("1",))


def test_the_highest_elevations_are_chosen_but_not_all_of_one_class() -> None:
    neurons = [
        Neuron("a", number, target, value)
        for number, (target, value) in enumerate([(0, 5.0), (0, 9.0), (0, 7.0), (1, 1.0), (2, -1.0)])
    ]
    assert [each.channel for each in chosen_neurons(neurons, 10, 2)] == [1, 2, 3]
    assert [each.channel for each in chosen_neurons(neurons, 1, 2)] == [1]


def test_the_model_is_left_as_it_was() -> None:
    made = net()
    before = made(PIXELS)
    elevations(made, "1", PIXELS, 2, largest=1.0)
    assert torch.equal(made(PIXELS), before)
    with pytest.raises(RuntimeError):
        elevations(made, "1", PIXELS[:, :, :, :1], 2, largest=1.0)
    assert not any(module._forward_hooks for module in made.modules())


def test_all_parts_of_an_image_are_stimulated() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(1, 2, bias=False)
            self.head = nn.Linear(4, 2, bias=False)
            self.head.weight.data = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 1]])

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(images.reshape(-1, 1)).reshape(len(images), 4))

    rises = elevations(Halves().eval(), "body", PIXELS, 2, largest=1.0)
    assert rises[0].tolist() == [[8.0, 0.0], [8.0, 0.0]]
    assert rises[1].tolist() == [[0.0, 8.0], [0.0, 8.0]]
