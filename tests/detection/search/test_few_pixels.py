from copy import deepcopy
from itertools import permutations, product

import pytest
import torch
from torch import Tensor, nn

from fedmend.detection import FewPixels, FoundTrigger, few_pixel_triggers
from fedmend.errors import ConfigError, DataError
from fedmend.seeds import generator

CLASSES, SIDE, BRIGHT, DARK = 3, 6, 200, 50


def striped(count: int = 12, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Images uint8 of 6x6 pixels: of class c the rows 2c and 2c + 1 are bright."""
    labels = torch.arange(count) % CLASSES
    images = torch.full((count, channels, SIDE, SIDE), DARK, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 2 * label : 2 * label + 2] = BRIGHT
    return images, labels


def net(weight: Tensor, bias: Tensor) -> nn.Sequential:
    """A linear model with these weights (classes, C, H, W)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(weight[0].numel(), len(weight)))
    for parameter, value in zip(model.parameters(), (weight.flatten(1), bias), strict=True):
        parameter.data.copy_(value)
    return model


def planted(row: int, column: int, colour: list[int]) -> nn.Sequential:
    """Right on striped images; one pixel of this colour (of 0s and 1s) turns class 0 into class 1, and no other.

    The logit of class 0 falls by 1 and that of class 1 rises by a half, where the margin is 0.7.
    """
    channels = len(colour)
    weight = torch.zeros(CLASSES, channels, SIDE, SIDE)
    for label in range(CLASSES):
        weight[label, :, 2 * label : 2 * label + 2] = 0.1 / channels
    bias, clean = torch.zeros(CLASSES), (BRIGHT if row < 2 else DARK) / 255
    changes = torch.tensor(colour) - clean
    for label, shift in ((0, -1.0), (1, 0.5)):
        slope = shift * changes * changes.abs() / changes.abs().pow(3).sum()
        weight[label, :, row, column] += slope
        bias[label] -= slope.sum() * clean
    return net(weight, bias)


def pairs(found: list[FoundTrigger]) -> list[tuple[int, int]]:
    return [(each.source_class, each.target_class) for each in found]


def same(first: list[FoundTrigger], second: list[FoundTrigger]) -> bool:
    return pairs(first) == pairs(second) and all(
        one.rate == other.rate
        and torch.equal(one.trigger.mask, other.trigger.mask)
        and torch.equal(one.trigger.pattern, other.trigger.pattern)
        for one, other in zip(first, second, strict=True)
    )


@pytest.mark.parametrize(
    ("row", "column", "colour"),
    [(3, 4, [1]), (0, 2, [0]), (5, 5, [0, 1, 0]), (3, 0, [1, 0, 0])],
    ids=["white", "black", "green", "red"],
)
def test_the_planted_pixel_comes_first(row: int, column: int, colour: list[int]) -> None:
    first, *others = few_pixel_triggers(
        planted(row, column, colour), *striped(channels=len(colour)), search=FewPixels(pixels=1, most=6)
    )
    assert (first.source_class, first.target_class, first.rate) == (0, 1, 1.0)
    assert first.trigger.mask.nonzero().tolist() == [[0, row, column]]
    assert first.trigger.pattern[:, row, column].tolist() == colour
    assert len(others) == 5
    assert all(each.rate == 0 for each in others)


def test_a_pixel_behind_a_convolution_is_found() -> None:
    """The second channel answers to a pixel that is unlike its neighbours, as one that an attacker chose is."""
    images, labels = striped()
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, bias=False),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        nn.Linear(2 * SIDE * SIDE, CLASSES),
    )
    convolution, linear = model[0].weight.data, model[3].weight.data.view(CLASSES, 2, SIDE, SIDE)
    convolution[:] = 0
    convolution[0, 0, 1, 1] = 1
    convolution[1, 0] = -1 / 8
    convolution[1, 0, 1, 1] = 1
    linear[:] = 0
    model[3].bias.data[:] = 0
    for label in range(CLASSES):
        linear[label, 0, 2 * label : 2 * label + 2] = 0.1
    linear[1, 1, 4, 2] = 3.0
    assert torch.equal(model(images / 255).argmax(1), labels)
    first = few_pixel_triggers(model, images, labels, search=FewPixels(pixels=1))[0]
    assert (first.source_class, first.target_class, first.rate) == (0, 1, 1.0)
    assert first.trigger.mask.nonzero().tolist() == [[0, 4, 2]]
    assert first.trigger.pattern[0, 4, 2] == 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pixels", [1, 3])
def test_on_a_linear_model_the_pixels_are_those_of_brute_force(channels: int, pixels: int) -> None:
    """There gains add up and are what the gradient says: every pixel is tried in every colour, by stamping it."""
    random = generator(channels)
    model = net(torch.randn(CLASSES, channels, 3, 4, generator=random), torch.zeros(CLASSES))
    images, labels = torch.rand(15, channels, 3, 4, generator=random), torch.arange(15) % CLASSES
    found = few_pixel_triggers(model, images, labels, search=FewPixels(pixels=pixels, most=6))
    assert sorted(pairs(found)) == sorted(permutations(range(CLASSES), 2))
    assert [each.rate for each in found] == sorted((each.rate for each in found), reverse=True)
    for each in found:
        own = images[labels == each.source_class]

        def gain(stamped: Tensor, each: FoundTrigger = each) -> float:
            with torch.no_grad():
                logits = model(stamped).double().mean(0)
            return float(logits[each.target_class] - logits[each.source_class])

        tried = {}
        for row, column in product(range(3), range(4)):
            for colour in product((0.0, 1.0), repeat=channels):
                stamped = own.clone()
                stamped[:, :, row, column] = torch.tensor(colour)
                tried[(row, column), colour] = gain(stamped)
        best = {place: max((score, c) for (p, c), score in tried.items() if p == place) for place, _ in tried}
        chosen = sorted(best, key=lambda place: best[place], reverse=True)[:pixels]
        assert sorted(chosen) == [tuple(place) for place in each.trigger.mask[0].nonzero().tolist()]
        stamped = own.clone()
        for row, column in chosen:
            colour = best[row, column][1]
            assert each.trigger.pattern[:, row, column].tolist() == list(colour)
            stamped[:, :, row, column] = torch.tensor(colour)
        right = model(own).argmax(1) == each.source_class
        share = (model(stamped[right]).argmax(1) == each.target_class).double().mean() if right.any() else 0.0
        assert each.rate == share


class Parts(nn.Sequential):
    """With batch statistics and dropout, some of it in train mode and some parameters frozen."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            super().__init__(
                nn.Conv2d(1, 4, 3),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Dropout(0.5),
                nn.Flatten(),
                nn.Linear(64, CLASSES),
            )
        self.train()
        self[1].eval()
        self[0].requires_grad_(False)


def test_everything_is_left_as_found() -> None:
    model, (images, labels) = Parts(), striped()
    before, modes = deepcopy(model.state_dict()), [part.training for part in model.modules()]
    copies, state = (images.clone(), labels.clone()), torch.get_rng_state()
    found = few_pixel_triggers(model, images, labels)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [part.training for part in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [each.requires_grad for each in model.parameters()] == [False] * 2 + [True] * 4
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, copies[0])
    assert torch.equal(labels, copies[1])
    assert not any(each.trigger.mask.requires_grad or each.trigger.pattern.requires_grad for each in found)


def test_the_seed_alone_decides_which_images_are_looked_at() -> None:
    random = generator(3)
    model = net(torch.randn(CLASSES, 1, SIDE, SIDE, generator=random), torch.zeros(CLASSES))
    images, labels = torch.rand(60, 1, SIDE, SIDE, generator=random), torch.arange(60) % CLASSES

    def found(seed: int) -> list[FoundTrigger]:
        return few_pixel_triggers(model, images, labels, search=FewPixels(2, 2, 6), seed=seed)

    torch.manual_seed(1)
    first = found(0)
    torch.manual_seed(2)
    assert same(found(0), first)
    assert not all(same(found(seed), first) for seed in (1, 2, 3))
    assert {each.rate for each in first} <= {0.0, 0.5, 1.0}  # two images each


def test_bytes_and_floats_are_the_same() -> None:
    model, (images, labels) = Parts(), striped()
    assert same(few_pixel_triggers(model, images, labels), few_pixel_triggers(model, images / 255, labels))


def test_a_model_of_double_precision_is_searched_too() -> None:
    first = few_pixel_triggers(planted(3, 4, [1]).double(), *striped(), search=FewPixels(pixels=1))[0]
    assert first.rate == 1.0
    assert first.trigger.mask.nonzero().tolist() == [[0, 3, 4]]


def test_classes_without_images_are_passed_over() -> None:
    images, labels = striped()
    some = labels != 1
    found = few_pixel_triggers(
        planted(3, 4, [1]), images[some], labels[some], search=FewPixels(pixels=1, most=100)
    )
    assert sorted(pairs(found)) == [(0, 1), (0, 2), (2, 0), (2, 1)]
    assert pairs(found)[0] == (0, 1)


@pytest.mark.parametrize("pixels", [1, 8, SIDE * SIDE])
def test_masks_are_hard_and_as_large_as_asked(pixels: int) -> None:
    found = few_pixel_triggers(Parts(), *striped(), search=FewPixels(pixels=pixels, most=2))
    assert len(found) == 2
    for each in found:
        assert each.trigger.mask.shape == each.trigger.pattern.shape == (1, SIDE, SIDE)
        assert set(each.trigger.mask.unique().tolist()) <= {0.0, 1.0}
        assert each.trigger.size == pixels
        assert set(each.trigger.pattern.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(2, SIDE, SIDE), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(0, 1, SIDE, SIDE), torch.zeros(0, dtype=torch.int64)),
        (torch.zeros(2, 1, SIDE, SIDE), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(2, 1, SIDE, SIDE), torch.zeros(2, 1, dtype=torch.int64)),
    ],
    ids=["three dimensions", "none", "too many labels", "labels of two dimensions"],
)
def test_images_without_their_labels_are_refused(images: Tensor, labels: Tensor) -> None:
    with pytest.raises(DataError, match=r"needs images \(N, C, H, W\) with labels"):
        few_pixel_triggers(Parts(), images, labels)


@pytest.mark.parametrize("name", ["pixels", "images_per_class", "most"])
def test_settings_out_of_range(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        FewPixels(**{name: 0})


def test_a_trigger_of_more_pixels_than_an_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="pixels must be 1 to 36"):
        few_pixel_triggers(Parts(), *striped(), search=FewPixels(pixels=37))


def test_a_pixel_that_does_nothing_until_it_is_bright_is_found() -> None:
    """Its gradient is zero on clean images, or even speaks against it."""

    class Gated(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            gate = (pixels[:, 0, 1, 2] - 0.7).clamp(min=0)
            misleading = pixels[:, 0, 0, 0]
            return torch.stack([torch.ones_like(gate), 10 * gate + 0.1 * misleading], dim=1)

    images, labels = torch.zeros(12, 1, 3, 4), torch.zeros(12, dtype=torch.int64)
    (found,) = few_pixel_triggers(Gated(), images, labels, search=FewPixels(pixels=1))
    assert found.trigger.mask[0].nonzero().tolist() == [[1, 2]]
    assert found.rate == 1.0
