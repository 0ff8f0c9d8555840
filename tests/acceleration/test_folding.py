from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from fedmend.acceleration.folding import folded
from fedmend.models import resnet18
from fedmend.parameters import flatten
from small_nets import IMAGES, Body, assert_alike, norms, settled


@pytest.mark.parametrize("kind", [torch.contiguous_format, torch.channels_last])
def test_a_residual_network_keeps_logits_and_gradients(kind: torch.memory_format) -> None:
    model = settled(resnet18(width=4)).to(memory_format=kind)  # type: ignore[call-overload]
    found = folded(model)
    assert (norms(model), norms(found)) == (20, 0)
    assert_alike(model, found, IMAGES)


def test_the_model_is_left_as_found() -> None:
    model = settled(resnet18(width=4))
    before = deepcopy(model)
    folded(model)
    assert torch.equal(flatten(model.state_dict()), flatten(before.state_dict()))
    assert norms(model) == 20


class Branched(Body):
    """Its output needs the convolution without BatchNorm, too."""

    def forward(self, images: Tensor) -> Tensor:
        between = self.body[0](images)
        means: Tensor = (between + self.body[1](between)).mean((2, 3))
        return means


def test_a_convolution_whose_output_is_used_twice_stays() -> None:
    model = settled(Branched())
    found = folded(model)
    assert norms(found) == 1
    assert torch.equal(found(IMAGES), model(IMAGES))


def test_without_batch_norm_the_model_itself_is_returned() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).eval()
    assert folded(model) is model
    assert norms(folded(settled(Body()))) == 0
