import random
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from fedmend.inversion.folding import folded
from fedmend.models import resnet18
from fedmend.parameters import flatten
from fedmend.seeds import generator

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = torch.rand(10, 3, 16, 16, generator=generator(0))


def settled(model: nn.Module) -> nn.Module:
    """In eval mode, each BatchNorm with statistics, weights and offsets of its own."""
    numbers = generator(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                assert values is not None
                values.data = 0.5 + torch.rand(values.shape, generator=numbers)
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("kind", [torch.contiguous_format, torch.channels_last])
def test_a_residual_networks_answers_and_gradients_are_the_same(kind: torch.memory_format) -> None:
    model = settled(resnet18(width=4)).to(memory_format=kind)  # type: ignore[call-overload]
    found = folded(model, IMAGES)
    assert (norms(model), norms(found)) == (20, 0)
    answers, gradients = [], []
    for each in (model, found):
        pixels = IMAGES.clone().requires_grad_()
        logits = each(pixels)
        answers.append(logits.detach())
        gradients.append(torch.autograd.grad(logits.square().sum(), pixels)[0])
    assert torch.allclose(*answers, rtol=1e-4, atol=1e-5)
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-4 * float(gradients[0].abs().max()))


def test_the_model_is_left_as_found() -> None:
    model = settled(resnet18(width=4))
    before = deepcopy(model)
    folded(model, IMAGES)
    assert torch.equal(flatten(model.state_dict()), flatten(before.state_dict()))
    assert norms(model) == 20


class Body(nn.Module):
    """A convolution with BatchNorm, and the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.body(images).mean((2, 3))
        return answers


class Undecided(Body):
    """Its way depends on the images, which torch.fx can't follow."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.sum() > 0 else -images)


class Moody(Body):
    """A number drawn at each call, which following it would freeze."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + random.random()


class Branched(Body):
    """The convolution's own answers count, too."""

    def forward(self, images: Tensor) -> Tensor:
        between = self.body[0](images)
        answers: Tensor = (between + self.body[1](between)).mean((2, 3))
        return answers


class Twice(Body):
    """One convolution, with and without BatchNorm behind it."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.body[0](images).mean((2, 3))


def test_a_convolution_whose_answers_are_used_twice_stays() -> None:
    model = settled(Branched())
    found = folded(model, IMAGES)
    assert norms(found) == 1
    assert torch.equal(found(IMAGES), model(IMAGES))


def test_what_cannot_be_folded_is_returned_as_it_is() -> None:
    assert norms(folded(settled(Body()), IMAGES)) == 0
    without = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).eval()
    for model in (without, settled(Undecided()), settled(Moody()), settled(Twice())):
        assert folded(model, IMAGES) is model


def test_eight_images_are_asked() -> None:
    asked = []
    model = settled(Body())
    model.register_forward_pre_hook(lambda _model, inputs: asked.append(inputs[0]))
    folded(model, IMAGES)
    assert torch.equal(asked[0], IMAGES[:8])
