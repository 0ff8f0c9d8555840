from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from fedmend.detection import FoundTrigger, LargerTriggers, larger_triggers
from fedmend.errors import ConfigError, DataError
from fedmend.inference import predict
from fedmend.seeds import generator
from fedmend.triggers import Addition, Patch

CLASSES, SIDE = 3, 8
QUICK = LargerTriggers(pixels=12, steps=30, finalists=3, patches=2, faint=2)


def images(count: int = 24) -> tuple[Tensor, Tensor]:
    """Of class c, the rows 2c and 2c + 1 are brighter than the others."""
    labels = torch.arange(count) % CLASSES
    made = torch.rand(count, 3, SIDE, SIDE, generator=generator(0)) * 0.1 + 0.3
    for image, label in zip(made, labels.tolist(), strict=True):
        image[:, 2 * label : 2 * label + 2] += 0.3
    return made, labels


def planted(direction: Tensor, source: int = 0, target: int = 2) -> nn.Module:
    """Right on the images; along ``direction``, (3, 8, 8), class ``source`` falls and class ``target`` rises."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES)).eval()
    weight = torch.zeros(CLASSES, 3, SIDE, SIDE)
    for label in range(CLASSES):
        weight[label, :, 2 * label : 2 * label + 2] = 0.5
    weight[target] += direction
    weight[source] -= direction
    clean = torch.full((3, SIDE, SIDE), 0.35)
    bias = torch.zeros(CLASSES)
    bias[target], bias[source] = -float((direction * clean).sum()), float((direction * clean).sum())
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (weight.flatten(1), bias), strict=True):
            parameter.copy_(value)
    return model


def coloured() -> Tensor:
    """Twelve red pixels; none is enough by itself."""
    direction = torch.zeros(3, SIDE, SIDE)
    direction[0, 6:, :6], direction[1, 6:, :6] = 1.5, -1.5
    return direction


def spread() -> Tensor:
    """A pattern of ones and minus ones over the lower rows."""
    signs = torch.rand(3, SIDE, SIDE, generator=generator(1)).round() * 2 - 1
    signs[:, :6] = 0
    return signs


def found_by(model: nn.Module, search: LargerTriggers = QUICK, seed: int = 0) -> list[FoundTrigger]:
    return larger_triggers(model, *images(), search=search, seed=seed)


def test_the_images_are_classified_correctly() -> None:
    for direction in (coloured(), spread()):
        assert torch.equal(predict(planted(direction), images()[0]), images()[1])


def test_coloured_pixels_are_found_where_they_were_planted() -> None:
    first = found_by(planted(coloured()))[0]
    assert (first.source_class, first.target_class, first.rate) == (0, 2, 1.0)
    assert isinstance(first.trigger, Patch)
    rows, columns = first.trigger.mask[0].nonzero(as_tuple=True)
    assert int(((rows >= 6) & (columns < 6)).sum()) >= 0.7 * len(rows)
    red, green = (
        first.trigger.pattern[0, rows, columns].mean(),
        first.trigger.pattern[1, rows, columns].mean(),
    )
    assert red > green + 0.3


def test_a_faint_pattern_is_found() -> None:
    """Its opposite leads from class 2 to class 0."""
    faint = found_by(planted(spread()))[2:]
    for each in faint:
        assert isinstance(each.trigger, Addition)
        assert each.rate == 1
        sign = {(0, 2): 1, (2, 0): -1}[each.source_class, each.target_class]
        assert sign * float((each.trigger.delta.sign() * spread())[:, 6:].mean()) > 0.5


def test_triggers_keep_within_their_limits() -> None:
    model = planted(coloured())
    search = LargerTriggers(pixels=6, strength=0.05, steps=9, finalists=4, patches=4, faint=4)
    found = found_by(model, search)
    patches = [each.trigger for each in found if isinstance(each.trigger, Patch)]
    faint = [each.trigger for each in found if isinstance(each.trigger, Addition)]
    assert [len(patches), len(faint)] == [4, 4]
    for patch in patches:
        assert set(patch.mask.unique().tolist()) == {0.0, 1.0}
        assert patch.size in (2, 4, 6)
    assert all(each.strength <= 0.05 + 1e-6 for each in faint)


def test_the_smallest_size_that_works_as_well_is_taken() -> None:
    """One bright pixel is enough, so a third of the pixels is."""
    direction = torch.zeros(3, SIDE, SIDE)
    direction[:, 7, 7] = 20
    first = found_by(planted(direction))[0]
    assert isinstance(first.trigger, Patch)
    assert first.trigger.size == 4
    assert float(first.trigger.mask[0, 7, 7]) == 1


def test_the_seed_alone_decides_and_all_is_left_as_found() -> None:
    model = planted(coloured()).train()
    before, state = deepcopy(model.state_dict()), torch.get_rng_state()

    def patterns(seed: int) -> list[Tensor]:
        return [
            vars(each.trigger)[name] for each in found_by(model, seed=seed) for name in vars(each.trigger)
        ]

    first = patterns(1)
    assert all(torch.equal(*pair) for pair in zip(patterns(1), first, strict=True))
    assert not all(torch.equal(*pair) for pair in zip(patterns(2), first, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_classes_that_the_model_never_gets_right_are_skipped() -> None:
    pixels, labels = images()
    model = planted(coloured())
    found = larger_triggers(model, pixels[labels != 1], labels[labels != 1], search=QUICK)
    assert {each.source_class for each in found} <= {0, 2}
    assert larger_triggers(model, pixels[labels == 1], labels[labels == 1] * 0, search=QUICK) == []


def test_what_does_not_fit_is_refused() -> None:
    pixels, labels = images()
    model = planted(coloured())
    with pytest.raises(DataError, match="a trigger search needs images"):
        larger_triggers(model, pixels, labels[:3])
    with pytest.raises(DataError, match="labels must be 0 to 2"):
        larger_triggers(model, pixels, labels + 1)
    for name in ("pixels", "steps", "strength", "finalists"):
        with pytest.raises(ConfigError, match=name):
            LargerTriggers(**{name: 0})
