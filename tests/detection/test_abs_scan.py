"""ABS's verdict, and the models that it can't judge."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedmend.detection import ArtificialBrainStimulation, Case, recovered
from fedmend.detection.search.neuron_triggers import NeuronTriggers
from fedmend.errors import ModelError
from fedmend.triggers import Patch

QUICK = ArtificialBrainStimulation(search=NeuronTriggers(steps=60))
IMAGES = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0)) / 2
LABELS = torch.arange(12) % 3


def net(power: float) -> nn.Module:
    """Three hidden neurons for the classes, by the brightness of rows; another fires on a white corner, for class 2."""
    made = nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.ReLU(), nn.Linear(6, 3, bias=False))
    made[1].weight.data.zero_()
    made[1].bias.data.zero_()
    for label in range(3):
        made[1].weight.data[label, 12 * label + 6 : 12 * label + 12] = 1 / 6
    made[1].weight.data[3, 0] = 1.0
    made[1].bias.data[3] = -0.6
    made[3].weight.data.zero_()
    made[3].weight.data[:3, :3] = torch.eye(3)
    made[3].weight.data[2, 3] = power
    return made.eval()


def images() -> torch.Tensor:
    bright = IMAGES.clone()
    for image, label in zip(bright, LABELS.tolist(), strict=True):
        image[0, 2 * label + 1] += 0.4
    return bright


def test_a_neuron_that_fires_on_a_corner_is_found() -> None:
    case = Case(net(power=20.0), images=images(), labels=LABELS)
    finding = QUICK(case, torch.Generator().manual_seed(0))
    assert (finding.verdict, finding.targets[0].target) == ("backdoored", 2)
    target = recovered(finding)
    assert target is not None
    assert isinstance(target.trigger, Patch)
    assert int(target.trigger.mask.flatten().argmax()) == 0
    assert "channel 3 of 1" in finding.reason


def test_without_such_a_neuron_it_stays_quiet() -> None:
    finding = QUICK(Case(net(power=0.0), images=images(), labels=LABELS), torch.Generator().manual_seed(0))
    assert finding.verdict == "clean"
    assert finding.suspicious <= finding.limit


def test_a_model_without_hidden_neurons_is_refused_in_one_line() -> None:
    single = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval()
    with pytest.raises(ModelError, match="no hidden neurons, which ABS stimulates"):
        QUICK(Case(single, images=images(), labels=LABELS), torch.Generator())


def test_layers_left_out_are_named() -> None:
    deep = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 3)
    ).eval()
    few = ArtificialBrainStimulation(passes=1, search=NeuronTriggers(steps=2))
    finding = few(Case(deep, images=images(), labels=LABELS), torch.Generator().manual_seed(0))
    assert "8 neurons of 1 layers were stimulated" in finding.notes
    assert "1 earlier layers were left out: 0" in finding.notes
