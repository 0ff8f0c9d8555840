"""A linear network that can carry a backdoor in one corner, and pooled triggers against it."""

from __future__ import annotations

import torch
from tiny_data import image_set
from tiny_nets import linear
from torch import Tensor, nn

from fedmend.data import ImageSet
from fedmend.detection import FoundTrigger
from fedmend.parameters import flatten
from fedmend.repairs.trigger_pool import TriggerPool
from fedmend.triggers import Patch

SHAPE, TARGET = (1, 8, 16), 1


def images(count: int = 40, seed: int = 0) -> ImageSet:
    """With a black pixel in the corner, where the trigger goes."""
    made = image_set(count, seed)
    made.images[:, :, 0, 0] = 0
    return made


def white(*places: tuple[int, int]) -> Patch:
    mask = torch.zeros(1, 8, 16)
    for row, column in places:
        mask[0, row, column] = 1
    return Patch(mask, mask.clone())


def pool(*found: FoundTrigger) -> TriggerPool:
    made = TriggerPool(SHAPE, 4, 1, most=10)
    assert made.add(0, found) is None
    return made


CORNER = pool(FoundTrigger(white((0, 0)), 0, TARGET, 1.0))


def net(corner: float = 0.0) -> nn.Sequential:
    """It sees which block is bright; the weight of the target for the corner can be a backdoor."""
    with torch.random.fork_rng(devices=[]):
        model = linear(4, 1, (8, 16))
    assert isinstance(model, nn.Sequential)
    weight = model[1].weight.data.view(4, 8, 16)
    weight[:] = 0
    for label in range(4):
        weight[label, 5:, 4 * label : 4 * label + 4] = 0.7
    weight[TARGET, 0, 0] = corner
    model[1].bias.data[:] = 0
    return model


def state(model: nn.Module) -> Tensor:
    return flatten(model.state_dict())
