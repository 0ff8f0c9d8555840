import pytest
import torch
from torch import nn

from fedmend.errors import ModelError
from fedmend.models import (
    ARCHITECTURES,
    Normalize,
    TwoConv,
    build_model,
    normalized,
    probe,
    resnet18,
    resnet34,
)

COUNTS = {
    "convnet": (10, 1, (28, 28), 102_730),
    "resnet18": (10, 3, (32, 32), 11_173_962),
    "resnet34": (43, 3, (32, 32), 21_306_731),
    "two-conv-20-50": (10, 1, (28, 28), 431_080),
    "two-conv-8-16": (10, 1, (28, 28), 37_610),
    "three-conv": (10, 1, (28, 28), 98_442),
}


def test_every_architecture_is_counted() -> None:
    assert set(COUNTS) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name: str) -> None:
    classes, channels, size, count = COUNTS[name]
    model = build_model(name, num_classes=classes, in_channels=channels, image_size=size, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert not any(key.startswith("normalize") for key in model.state_dict())


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (40, 24)])
@pytest.mark.parametrize("name", ["convnet", "two-conv-20-50", "two-conv-8-16", "three-conv"])
def test_small_networks_take_other_sizes_and_learn(name: str, size: tuple[int, int]) -> None:
    model = build_model(name, num_classes=7, in_channels=3, image_size=size, seed=0)
    logits = model(torch.rand(4, 3, *size))
    assert logits.shape == (4, 7)
    logits.logsumexp(1).sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


@pytest.mark.parametrize(("factory", "size"), [(resnet18, 32), (resnet34, 32), (resnet34, 28)])
def test_residual_networks_can_be_narrow(factory: type, size: int) -> None:
    model = factory(num_classes=5, in_channels=3, width=4)
    logits = model(torch.rand(2, 3, size, size))
    assert logits.shape == (2, 5)
    logits.logsumexp(1).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", ["two-conv-20-50", "three-conv"])
def test_images_too_small_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="at least"):
        build_model(name, num_classes=10, in_channels=1, image_size=(7, 28))


def test_normalisation_is_the_first_layer() -> None:
    normalize = Normalize()
    pixels = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)
    assert normalize(pixels).flatten().tolist() == [-1.0, 0.0, 1.0]
    colours = Normalize([0.0, 0.5, 1.0], [1.0, 0.5, 0.25])(torch.ones(1, 3, 1, 1))
    assert colours.flatten().tolist() == [1.0, 1.0, 0.0]
    assert not normalize.state_dict()
    assert "0.5" in repr(normalize)
    assert all(
        isinstance(next(iter(factory().children())), Normalize)
        for name, factory in ARCHITECTURES.items()
        if not name.startswith("resnet")
    )


def test_batch_normalisation_of_the_pruning_nets_is_optional() -> None:
    model = TwoConv((8, 16), 128, batch_norm=True)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == 2
    assert probe(model, 1, (28, 28)) == 10


def test_a_model_for_normalised_images_can_take_pixels() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 2)).double()
    pixels = torch.rand(3, 2, 2, 2, dtype=torch.float64)
    mean, std = torch.tensor([0.25, 0.5]).view(2, 1, 1), torch.tensor([0.5, 0.125]).view(2, 1, 1)
    expected = model((pixels - mean) / std)
    assert torch.allclose(normalized(model, (0.25, 0.5), (0.5, 0.125), 2)(pixels), expected)
    assert list(model.state_dict()) == ["1.weight", "1.bias"]


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.1, 0.2), (0.1,), "mean: expected 1 number or 3"),
        ((0.1,), (0.1, 0.2), "std: expected 1 number or 3"),
        ((123.7,), (0.1,), "mean: expected numbers in .*divide"),
        ((0.5,), (58.4,), "std: .*divide"),
        ((0.5,), (0.0,), "std: expected numbers above 0"),
        ((float("nan"),), (0.1,), "mean"),
    ],
)
def test_normalisations_out_of_range(mean: tuple[float], std: tuple[float], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        normalized(nn.Flatten(), mean, std, 3)
