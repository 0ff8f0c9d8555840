"""Patches for neurons: they activate them, within the size limit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedmend.detection.search.neuron_triggers import NeuronTriggers
from fedmend.detection.stimulation import Neuron

PIXELS = torch.full((3, 1, 5, 4), 0.5)


def net() -> nn.Module:
    """Each of two hidden neurons is one pixel's brightness."""
    made = nn.Sequential(nn.Flatten(), nn.Linear(20, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    made[1].weight.data.zero_()
    made[1].weight.data[0, 3] = made[1].weight.data[1, 17] = 1.0
    return made.eval().requires_grad_(False)


def test_each_neuron_has_a_patch_where_it_looks() -> None:
    neurons = [Neuron("1", 0, 0, 1.0), Neuron("1", 1, 1, 1.0)]
    patches = NeuronTriggers(size=0.1, steps=60)(net(), neurons, PIXELS, torch.Generator().manual_seed(0), 99)
    for patch, place in zip(patches, (3, 17), strict=True):
        assert patch.size <= 2 + 1e-4  # a tenth of 20 pixels
        assert int(patch.mask.flatten().argmax()) == place
        assert float(patch.apply(PIXELS).flatten(1)[:, place].min()) > 0.9


@pytest.mark.parametrize("at_once", [1, 3, 6])
def test_groups_that_fit_the_memory_change_nothing(at_once: int) -> None:
    """So a patch doesn't depend on the other neurons either."""
    neurons = [Neuron("1", 0, 0, 1.0), Neuron("1", 1, 1, 1.0), Neuron("1", 0, 2, 1.0)]
    search, start = NeuronTriggers(steps=20), torch.Generator()
    whole = search(net(), neurons, PIXELS, start.manual_seed(0), 99)
    parts = search(net(), neurons, PIXELS, start.manual_seed(0), at_once)
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one.mask, other.mask, atol=1e-5)
