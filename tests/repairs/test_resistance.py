"""How well a model resists the triggers that clients found."""

import pytest
import torch
from cornered import CORNER, net, pool, state, white
from tiny_data import image_set
from torch import nn

from fedmend.data import ImageSet
from fedmend.detection import FoundTrigger
from fedmend.repairs.group_selection import resistance
from fedmend.repairs.trigger_pool import TriggerPool


def resists(model: nn.Module, some: ImageSet, triggers: TriggerPool) -> float:
    return resistance(model, (some.images, some.labels), triggers)


def validation() -> ImageSet:
    """Eight images of class 0, four of class 2 and one of class 3 that looks like class 2; three carry a pixel."""
    labels = torch.tensor([0] * 8 + [2] * 5)
    picture = image_set(4).images
    picture[:, :, 0, 0] = 0
    made = ImageSet(picture[labels].clone(), labels.clone(), tuple("abcd"))
    made.labels[-1] = 3
    return made


def test_resistance_by_hand() -> None:
    """Class 0 is 8 of 13 images, class 2 four, all right; the last image is wrong. 12 / 13 on clean images."""
    model = net(corner=40.0)
    assert resists(model, validation(), pool()) == pytest.approx(12 / 13)
    moved, idle = FoundTrigger(white((0, 0)), 0, 1, 0.9), FoundTrigger(white((1, 1)), 2, 1, 0.3)
    assert resists(model, validation(), pool(moved)) == pytest.approx(12 / 13)
    assert resists(model, validation(), pool(idle)) == pytest.approx(12 / 13 + 1)
    assert resists(model, validation(), pool(moved, idle)) == pytest.approx(12 / 13 + 0.3 / 1.2)


def test_resistance_counts_right_answers_and_not_only_the_target() -> None:
    """An image that a trigger sends to a third class is lost as well."""
    astray = FoundTrigger(white((0, 0)), 2, 3, 0.5)
    assert resists(net(corner=40.0), validation(), pool(astray)) == pytest.approx(12 / 13)
    assert resists(net(), validation(), pool(astray)) == pytest.approx(12 / 13 + 1)


def test_resistance_is_a_share_of_the_images_of_the_class() -> None:
    """Half of class 0's images have a white block: it adds 8.4 to their logit, the others' block 5.9 at most."""
    some = validation()
    some.images[:4, :, 5:, :4] = 255
    stamped = pool(FoundTrigger(white((0, 0)), 0, 1, 1.0))
    assert resists(net(corner=5.3), some, stamped) == pytest.approx(12 / 13 + 1 / 2)


def test_only_the_three_best_triggers_are_tried() -> None:
    rates = ((1, 0.5), (2, 0.6), (3, 0.7))
    model, idle = net(corner=40.0), [FoundTrigger(white((1, 1)), 0, target, rate) for target, rate in rates]
    weak = FoundTrigger(white((0, 0)), 2, 1, 0.4)
    assert resists(model, validation(), pool(weak, *idle)) == pytest.approx(12 / 13 + 1)
    assert resists(model, validation(), pool(weak, *idle[:2])) == pytest.approx(12 / 13 + 1.1 / 1.5)


def test_one_trigger_of_a_pair_of_classes_is_tried() -> None:
    """A client that sends the same one three times pushes no other out."""
    decoys = [FoundTrigger(white((1, 1)), 0, 1, 1.0)] * 3
    moving = FoundTrigger(white((0, 0)), 2, 1, 1.0)
    assert resists(net(corner=40.0), validation(), pool(*decoys, moving)) == pytest.approx(12 / 13 + 0.5)


def test_triggers_that_cannot_be_tried_do_not_count() -> None:
    """There is no image of class 1, and a rate of zero weighs nothing."""
    absent, nothing = FoundTrigger(white((1, 1)), 1, 2, 0.9), FoundTrigger(white((1, 1)), 0, 2, 0.0)
    assert resists(net(), validation(), pool(absent, nothing)) == pytest.approx(12 / 13)


def test_resistance_leaves_the_model_as_it_is() -> None:
    model = nn.Sequential(net(), nn.Dropout(0.5)).train()
    before, generator = state(model), torch.get_rng_state()
    resists(model, validation(), CORNER)
    assert model[1].training
    assert torch.equal(state(model), before)
    assert torch.equal(torch.get_rng_state(), generator)
