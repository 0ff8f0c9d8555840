from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from fedmend.errors import DataError, ModelError
from fedmend.models import build_model
from fedmend.pruning import mean_activations
from fedmend.seeds import generator

IMAGES = torch.randint(0, 256, (300, 1, 12, 12), generator=generator(0), dtype=torch.uint8)
PIXELS = IMAGES / 255


def expected(activations: Tensor) -> Tensor:
    return activations.double().mean((0, 2, 3))


def test_by_hand() -> None:
    """Two channels of 1x1 filters, 2x and -x + 0.5, on pixels 0 and 1: after ReLU the means are 1 and 0.25."""
    convolution = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([2.0, -1.0]).view(2, 1, 1, 1))
        convolution.bias.copy_(torch.tensor([0.0, 0.5]))
    model = nn.Sequential(convolution, nn.ReLU(), nn.Flatten())
    images = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    assert mean_activations(model, images).tolist() == pytest.approx([1.0, 0.25])


def test_the_last_convolution_after_its_nonlinearity() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.Conv2d(3, 5, 3),
        nn.BatchNorm2d(5),
        nn.Dropout2d(0.5),
        nn.LeakyReLU(),
    ).eval()
    with torch.no_grad():
        last, first = model(PIXELS), model[:2](PIXELS)
    assert torch.allclose(mean_activations(model, IMAGES), expected(last), atol=1e-6)
    assert torch.allclose(mean_activations(model, IMAGES, layer="0"), expected(first), atol=1e-6)
    assert torch.allclose(mean_activations(model, PIXELS.double()), expected(last), atol=1e-6)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.pool = nn.Conv2d(1, 4, 3), nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.pool(relu(self.convolution(images)))
        return pooled.flatten(1)


def test_a_functional_nonlinearity_counts() -> None:
    model = Functional()
    with torch.no_grad():
        activations = relu(model.convolution(PIXELS))
    assert torch.allclose(mean_activations(model, IMAGES), expected(activations), atol=1e-6)


def test_without_anything_after_it_the_convolution_itself() -> None:
    model = nn.Conv2d(1, 4, 3)
    with torch.no_grad():
        assert torch.allclose(mean_activations(model, IMAGES), expected(model(PIXELS)), atol=1e-6)
    headed = nn.Sequential(model, nn.Flatten())
    with torch.no_grad():
        assert torch.allclose(mean_activations(headed, IMAGES), expected(model(PIXELS)), atol=1e-6)


class Shared(nn.Module):
    """One ReLU for two convolutions, and the second has a way around it, as in a ResNet's block."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        way: Tensor = self.relu(self.first(images))
        out: Tensor = self.relu(self.second(way) + way)
        return out


def test_a_nonlinearity_that_two_convolutions_share() -> None:
    model = Shared()
    with torch.no_grad():
        first, second = model.relu(model.first(PIXELS)), model(PIXELS)
    assert torch.allclose(mean_activations(model, IMAGES), expected(second), atol=1e-6)
    assert torch.allclose(mean_activations(model, IMAGES, "first"), expected(first), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("convnet", 128),
        ("resnet18", 512),
        ("two-conv-20-50", 50),
        ("two-conv-8-16", 16),
        ("three-conv", None),
    ],
)
def test_every_network_of_the_papers(name: str, channels: int | None) -> None:
    model = build_model(name, num_classes=10, in_channels=1, image_size=(28, 28), seed=0)
    images = torch.randint(0, 256, (3, 1, 28, 28), generator=generator(1), dtype=torch.uint8)
    found = mean_activations(model, images)
    assert channels in (None, len(found))
    assert bool((found > -0.1).all())
    assert bool(found.any())


def test_the_model_is_left_as_found() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    before = deepcopy(model.state_dict())
    told: list[tuple[str, int, int]] = []
    mean_activations(model, IMAGES, progress=lambda *step: told.append(step))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert told[-1][1] == told[-1][2] == len(told)


def test_bad_input_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())
    with pytest.raises(DataError, match="N at least 1"):
        mean_activations(model, IMAGES[:0])
    with pytest.raises(ModelError, match=r"no convolution called 'head'; it has 0"):
        mean_activations(model, IMAGES, "head")
    with pytest.raises(ModelError, match="runs no convolution; it has none"):
        mean_activations(nn.Flatten(), IMAGES)
    with torch.no_grad():
        model[0].bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN or infinite"):
        mean_activations(model, IMAGES)


class Flattened(nn.Module):
    """A nonlinearity that is a function, and nothing but a linear layer after it."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.convolution, self.pooled = nn.Conv2d(1, 4, 3), pooled
        self.linear = nn.LazyLinear(2)

    def forward(self, images: Tensor) -> Tensor:
        activations = relu(self.convolution(images))
        features = activations.mean((2, 3)) if self.pooled else activations.flatten(1)
        logits: Tensor = self.linear(features)
        return logits


@pytest.mark.parametrize("pooled", [True, False])
def test_a_functional_nonlinearity_before_a_linear_layer(pooled: bool) -> None:
    model = Flattened(pooled)
    with torch.no_grad():
        model(PIXELS)
        activations = relu(model.convolution(PIXELS))
    assert torch.allclose(mean_activations(model, IMAGES), expected(activations), atol=1e-6)
