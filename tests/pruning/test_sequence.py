from collections.abc import Callable, Sequence
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from fedmend.errors import ConfigError, DataError, ModelError
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.goals import AllToOne
from fedmend.inference import predict
from fedmend.models import build_model
from fedmend.models.residual_net import resnet18
from fedmend.models.two_conv_net import TwoConv
from fedmend.pruning import accuracies_along, points_along
from fedmend.seeds import generator
from fedmend.triggers import Pixels

SIDE = 16


def images(count: int = 40, side: int = SIDE) -> Tensor:
    return torch.randint(0, 256, (count, 1, side, side), generator=generator(0), dtype=torch.uint8)


def shaken(model: nn.Module) -> nn.Module:
    """In train mode, with parameters and statistics that are neither 0 nor 1, and answers that differ."""
    random = generator(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=random)
            value.copy_(0.5 + noise if name.endswith("var") else value + noise - 0.5)
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        logits = model.eval()(images() / 255)
        head.weight /= logits.std(0)[:, None]
        head.bias.copy_((head.bias - logits.mean(0)) / logits.std(0))
    return model.train()


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 6, 3), nn.Linear(24, 4)

    def forward(self, batch: Tensor) -> Tensor:
        lower = max_pool2d(relu(self.first(batch)), 2)
        upper = max_pool2d(relu(self.second(lower)), 2) * lower.mean((1, 2, 3), keepdim=True)
        logits: Tensor = self.head(upper.flatten(1))
        return logits


class Deciding(nn.Module):
    """Its way depends on the pixels, so that torch.fx can't trace it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(6 * 144, 4)

    def forward(self, batch: Tensor) -> Tensor:
        lower = self.first(batch) * (2 if batch.mean() > 0.1 else 1)
        logits: Tensor = self.head(self.relu(self.norm(self.second(lower))).flatten(1))
        return logits


Net = tuple[Callable[[], nn.Module], str, tuple[str, ...]]
NETS: dict[str, Net] = {
    "two-conv-8-16": (
        lambda: build_model("two-conv-8-16", num_classes=4, in_channels=1, image_size=(16, 16), seed=0),
        "conv2",
        (),
    ),
    "two-conv-20-50": (
        lambda: build_model("two-conv-20-50", num_classes=4, in_channels=1, image_size=(16, 16), seed=0),
        "conv2",
        (),
    ),
    "batch norm": (
        lambda: TwoConv((4, 6), 8, 4, image_size=(SIDE, SIDE), batch_norm=True),
        "conv2",
        ("bn2",),
    ),
    "shortcut": (
        lambda: resnet18(num_classes=4, in_channels=1, width=2),
        "layer4.1.conv2",
        ("layer4.1.bn2",),
    ),
    "functional": (Functional, "second", ()),
    "can't be traced": (Deciding, "second", ("norm",)),
}
every_net = pytest.mark.parametrize("name", NETS)


def made(name: str) -> tuple[nn.Module, str, tuple[str, ...]]:
    make, layer, norms = NETS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return shaken(make()), layer, norms


def pruned(model: nn.Module, parts: Sequence[str], channels: Sequence[int]) -> nn.Module:
    """A copy with these channels' weights set to zero, one by one."""
    copy = deepcopy(model)
    for part in parts:
        for parameter in copy.get_submodule(part).parameters():
            for channel in channels:
                parameter.data[channel] = 0
    return copy


def shuffled(model: nn.Module, layer: str) -> list[int]:
    width = len(model.get_submodule(layer).weight)  # type: ignore[arg-type]
    return torch.randperm(width, generator=generator(3)).tolist()


@every_net
def test_it_agrees_with_pruning_a_copy_at_every_point(name: str) -> None:
    model, layer, norms = made(name)
    batch, order = images(), shuffled(model, layer)
    labels = predict(model, batch)
    points = points_along(len(order), 7)
    found = accuracies_along(model, order, points, batch, labels)
    copies = [pruned(model, (layer, *norms), order[:count]) for count in points]
    assert found.tolist() == [accuracy(copy, batch, labels) for copy in copies]
    assert found.dtype == torch.float64
    assert found[0] == 1
    assert len(found.unique()) > 2  # so that the comparison says something


@pytest.mark.parametrize(
    ("name", "layer", "norms"),
    [
        ("batch norm", "conv1", ("bn1",)),
        ("shortcut", "layer1.0.conv1", ("layer1.0.bn1",)),
        ("shortcut", "layer4.0.conv2", ("layer4.0.bn2",)),
        ("can't be traced", "first", ()),
    ],
)
def test_a_layer_by_name(name: str, layer: str, norms: tuple[str, ...]) -> None:
    model, batch = made(name)[0], images()
    order, labels = shuffled(model, layer), predict(model, batch)
    points = list(range(len(order)))
    copies = [pruned(model, (layer, *norms), order[:count]) for count in points]
    found = accuracies_along(model, order, points, batch, labels, layer=layer)
    assert found.tolist() == [accuracy(copy, batch, labels) for copy in copies]
    assert float(found.min()) < 1


@pytest.mark.parametrize("name", ["shortcut", "can't be traced"])
def test_on_stamped_images_it_is_the_attack_success_rate(name: str) -> None:
    model, layer, norms = made(name)
    batch, order, stamp = images(), shuffled(model, layer), Pixels("9px", (1, SIDE, SIDE)).patch
    target = int(predict(model, batch, stamp).mode().values)
    others = torch.full((len(batch),), (target + 1) % 4)
    points = [0, 2, len(order) - 1]
    found = accuracies_along(model, order, points, stamp.apply(batch / 255), torch.full_like(others, target))
    copies = [pruned(model, (layer, *norms), order[:count]) for count in points]
    assert found.tolist() == [
        attack_success_rate(copy, stamp, AllToOne(target), batch, others) for copy in copies
    ]
    assert found[0] > 0


def test_any_ascending_points_and_images_of_any_precision() -> None:
    model, layer, _ = made("two-conv-8-16")
    batch, order = images(), shuffled(model, layer)
    labels = predict(model, batch)
    every = accuracies_along(model, order, range(16), batch, labels)
    for points in ([0], [15], [3, 4, 9]):
        some = accuracies_along(model, torch.tensor(order), points, batch / 255, labels)  # type: ignore[arg-type]
        assert some.tolist() == every[points].tolist()
    double = accuracies_along(model.double(), order, range(16), batch.double() / 255, labels)
    assert torch.allclose(double, every, atol=0.03)


@pytest.mark.parametrize(("name", "layer"), [("batch norm", "conv2"), ("functional", "second")])
def test_lower_layers_run_once_a_batch(name: str, layer: str) -> None:
    model, batch = made(name)[0], images(1001)
    lower, last = list[int](), list[int]()
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_hook(lambda _module, inputs, _output: lower.append(len(inputs[0])))
    model.get_submodule(layer).register_forward_hook(
        lambda _module, inputs, _output: last.append(len(inputs[0]))
    )
    accuracies_along(model, range(6), range(6), batch, torch.zeros(1001, dtype=torch.int64))
    # One image finds the layer; then for each batch two check the cut, twice, and the batch itself runs once.
    assert lower == last == [1, 2, 2, 500, 2, 2, 500, 1, 1, 1]


@pytest.mark.parametrize("name", ["batch norm", "can't be traced"])
def test_batches_add_up(name: str) -> None:
    model, layer, norms = made(name)
    batch, points = images(1001), [0, 3, 5]
    labels = predict(model, batch)
    found = accuracies_along(model, range(6), points, batch, labels)
    copies = [pruned(model, (layer, *norms), range(count)) for count in points]
    assert found.tolist() == [accuracy(copy, batch, labels) for copy in copies]


@every_net
def test_the_model_is_left_as_found(name: str) -> None:
    model, layer, _ = made(name)
    before, batch = deepcopy(model.state_dict()), images(6)
    next(model.children()).eval()
    model.get_submodule(layer).requires_grad_(False)
    modes = [module.training for module in model.modules()]
    frozen = [parameter.requires_grad for parameter in model.parameters()]
    copy = batch.clone()
    accuracies_along(model, shuffled(model, layer), [0, 2, 5], batch, torch.zeros(6, dtype=torch.int64))
    assert [module.training for module in model.modules()] == modes
    assert True in modes
    assert [parameter.requires_grad for parameter in model.parameters()] == frozen
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(batch, copy)


def test_bad_input_is_refused() -> None:
    model, batch, labels = made("functional")[0], images(4), torch.zeros(4, dtype=torch.int64)
    for given, classes in ((batch[:0], labels[:0]), (batch, labels[:3]), (batch, labels[None])):
        with pytest.raises(DataError, match="labels"):
            accuracies_along(model, range(6), [0], given, classes)
    for sequence in (range(5), range(7), [0, 1, 2, 3, 4, 4], range(1, 7), []):
        with pytest.raises(ConfigError, match="must name each of the 6 channels of second once"):
            accuracies_along(model, sequence, [0], batch, labels)
    for points in ([], [-1, 2], [0, 6], [0, 0], [2, 1]):
        with pytest.raises(ConfigError, match="testing points must ascend within 0 to 5"):
            accuracies_along(model, range(6), points, batch, labels)
    with pytest.raises(ModelError, match="no convolution called 'head'"):
        accuracies_along(model, range(6), [0], batch, labels, layer="head")


def test_the_mode_is_put_back_after_an_error() -> None:
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, affine=False), nn.ReLU(), *head)
    with pytest.raises(ModelError, match="without affine parameters"):
        accuracies_along(model, range(3), [0, 1], images(4), torch.zeros(4, dtype=torch.int64))
    assert all(module.training for module in model.modules())
