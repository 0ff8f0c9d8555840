from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from fedmend.errors import ModelError
from fedmend.models import build_model
from fedmend.models.residual_net import resnet18, resnet34
from fedmend.models.two_conv_net import TwoConv
from fedmend.pruning import ConvLayer, locate
from fedmend.seeds import generator

IMAGES = torch.randint(0, 256, (3, 1, 16, 16), generator=generator(0), dtype=torch.uint8)


def watched(model: nn.Module, point: ConvLayer) -> list[Tensor]:
    """What the point's activations are while the model runs once on all images."""
    seen: list[Tensor] = []
    handles = point.watch(lambda activations: seen.append(activations.clone()))
    with torch.no_grad():
        model.eval()(IMAGES / 255)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize(
    "between",
    [
        [],
        [nn.MaxPool2d(2)],
        [nn.BatchNorm2d(4)],
        [nn.BatchNorm2d(4), nn.MaxPool2d(3, stride=1)],
        [nn.GroupNorm(2, 4), nn.Dropout2d(0.5), nn.Identity()],
        [nn.InstanceNorm2d(4, affine=True), nn.Dropout(0.5), nn.MaxPool2d(2)],
    ],
)
@pytest.mark.parametrize("nonlinearity", [nn.ReLU(), nn.LeakyReLU(), nn.SiLU(), nn.Tanh()])
def test_normalisation_dropout_and_a_pool_may_come_before_the_nonlinearity(
    between: list[nn.Module], nonlinearity: nn.Module
) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), *between, nonlinearity, nn.Flatten())
    point = locate(model, IMAGES)
    assert (point.name, point.convolution, point.module, point.given) == ("0", model[0], nonlinearity, False)
    norms = {
        str(index): module
        for index, module in enumerate(between, 1)
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm | nn.InstanceNorm2d)
    }
    assert point.norms == norms
    (seen,) = watched(model, point)
    assert torch.equal(seen, model[: len(between) + 2](IMAGES / 255))


def test_a_pool_without_a_nonlinearity_after_it_is_where_activations_are_given() -> None:
    """The nonlinearity may be a function before the pool."""

    class Usual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.pool = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2)
            self.head = nn.Linear(4 * 49, 2)

        def forward(self, batch: Tensor) -> Tensor:
            logits: Tensor = self.head(self.pool(relu(self.norm(self.conv(batch)))).flatten(1))
            return logits

    model = Usual()
    point = locate(model, IMAGES)
    assert (point.name, point.module, point.given, point.norms) == (
        "conv",
        model.pool,
        True,
        {"norm": model.norm},
    )
    (seen,) = watched(model, point)
    with torch.no_grad():
        assert torch.equal(seen, relu(model.norm(model.conv(IMAGES / 255))))


def test_a_pool_that_is_a_function_too_leaves_what_the_linear_layer_is_given() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4 * 49, 2)

        def forward(self, batch: Tensor) -> Tensor:
            logits: Tensor = self.head(max_pool2d(relu(self.conv(batch)), 2).flatten(1))
            return logits

    model = Bare()
    point = locate(model, IMAGES)
    assert (point.name, point.module, point.given, point.norms) == ("conv", model.head, True, {})
    (seen,) = watched(model, point)
    with torch.no_grad():
        pooled = max_pool2d(relu(model.conv(IMAGES / 255)), 2)
    assert torch.equal(seen, pooled.flatten(2))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("two-conv-20-50", "conv2"),
        ("two-conv-8-16", "conv2"),
        ("three-conv", "conv3"),
        ("convnet", "features.9"),
    ],
)
def test_the_last_convolution_of_the_papers_networks(name: str, layer: str) -> None:
    model = build_model(name, num_classes=3, in_channels=1, image_size=(16, 16), seed=0)
    point = locate(model, IMAGES)
    assert (point.name, point.convolution, point.norms) == (layer, model.get_submodule(layer), {})
    assert isinstance(point.module, nn.ReLU | nn.LeakyReLU)


def test_in_a_net_with_batch_normalisation_it_is_found() -> None:
    model = TwoConv((2, 3), 4, image_size=(16, 16), batch_norm=True)
    assert locate(model, IMAGES).norms == {"bn2": model.bn2}
    assert locate(model, IMAGES, "conv1").norms == {"bn1": model.bn1}
    assert locate(model, IMAGES).module is model.relu


@pytest.mark.parametrize(("make", "last"), [(resnet18, "layer4.1"), (resnet34, "layer4.2")])
def test_in_a_resnet_activations_are_those_after_the_shortcut(make: type, last: str) -> None:
    model = make(num_classes=3, in_channels=1, width=2)
    block = model.get_submodule(last)
    point = locate(model, IMAGES)
    assert (point.name, point.convolution) == (f"{last}.conv2", block.conv2)
    assert (point.norms, point.module, point.given) == ({f"{last}.bn2": block.bn2}, block.relu, False)
    came: list[Tensor] = []
    block.register_forward_hook(lambda _module, _inputs, output: came.append(output.clone()))
    (seen,) = watched(model, point)
    assert torch.equal(seen, came[0])
    inner = locate(model, IMAGES, f"{last}.conv1")
    assert inner.norms == {f"{last}.bn1": block.bn1}
    (lower,) = watched(model, inner)
    assert lower.shape == seen.shape
    assert not torch.equal(lower, seen)


def test_the_one_that_runs_last_is_the_last_and_not_the_one_named_last() -> None:
    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.upper, self.lower = nn.Conv2d(2, 5, 3), nn.Conv2d(1, 2, 3)
            self.unused = nn.Conv2d(5, 7, 3)

        def forward(self, batch: Tensor) -> Tensor:
            maps: Tensor = self.upper(self.lower(batch))
            return maps

    assert locate(Crossed(), IMAGES).name == "upper"
    with pytest.raises(ModelError, match="no convolution called 'unused'; it has lower, upper"):
        locate(Crossed(), IMAGES, "unused")


def test_finding_it_leaves_the_model_as_it_was() -> None:
    model = TwoConv((2, 3), 4, image_size=(16, 16), batch_norm=True)
    model.bn1.eval()
    before = deepcopy(model.state_dict())
    locate(model, IMAGES)
    with pytest.raises(ModelError):
        locate(model, IMAGES, "fc1")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()].count(False) == 1
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_functional_nonlinearity_keeps_the_normalisation() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm, self.head = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Linear(192, 2)

        def forward(self, pixels: Tensor) -> Tensor:
            logits: Tensor = self.head(self.norm(self.convolution(pixels)).relu().flatten(1))
            return logits

    model = Functional()
    point = locate(model, torch.rand(2, 1, 10, 10))
    assert list(point.norms) == ["norm"]
    assert point.module is model.head
    assert point.given


def test_a_normalisation_after_a_max_pool_is_found() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())
    assert list(locate(model, torch.rand(2, 1, 10, 10)).norms) == ["2"]


@pytest.mark.parametrize(
    "wrap", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
def test_a_weight_made_of_other_parameters_is_refused_with_a_way_out(
    wrap: Callable[[nn.Module], nn.Module],
) -> None:
    model = nn.Sequential(wrap(nn.Conv2d(1, 3, 3)), nn.ReLU())

    with pytest.raises(ModelError, match="remove_parametrizations"):
        locate(model, torch.zeros(1, 1, 6, 6))


def test_a_linear_layer_whose_weight_is_made_of_others_is_a_layer_and_not_what_makes_it() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.linear = nn.utils.parametrizations.spectral_norm(nn.Linear(64, 3))

        def forward(self, pixels: Tensor) -> Tensor:
            return self.linear(relu(self.conv(pixels)).flatten(1))

    net = Net()
    point = locate(net, torch.zeros(1, 1, 6, 6))
    assert point.module is net.linear
    assert point.given
