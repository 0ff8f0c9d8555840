import pytest
import torch
from torch import Tensor

from fedmend.detection.search.aims import Aim, all_to_one
from fedmend.detection.search.direction import Direction, Logits
from fedmend.detection.search.families import ADDITIONS, PATCHES, Family
from fedmend.detection.search.shortlist import shortlisted
from fedmend.seeds import generator

CLASSES, COUNT, SIDE, TARGET = 200, 20, 12, 137
IMAGES = torch.rand(COUNT, 1, SIDE, SIDE, generator=generator(0, "images"))
WEIGHTS = torch.randn(CLASSES, SIDE * SIDE, generator=generator(0, "weights"))
DRIFT = torch.randn(CLASSES, SIDE * SIDE, generator=generator(0, "drift"))


def honest(images: Tensor) -> Tensor:
    return images.flatten(1) @ WEIGHTS.T


def backdoored(images: Tensor) -> Tensor:
    """Like an honest model after another round, but bright first pixels make it the target."""
    logits = images.flatten(1) @ (WEIGHTS + 0.1 * DRIFT).T
    fires = 20 * images[:, 0, :2, :2].mean((1, 2)).square()
    return logits + fires[:, None] * torch.eye(CLASSES)[TARGET]


def direction(fires: Logits, stays: Logits) -> Direction:
    logits = torch.stack([fires(IMAGES), stays(IMAGES)])
    before, kept = logits.argmax(2)
    return Direction(fires, stays, fires, stays, IMAGES, before, kept, CLASSES, logits, at_once=3)


@pytest.mark.parametrize("family", [PATCHES, ADDITIONS])
def test_the_planted_target_is_among_the_few(family: Family) -> None:
    for seed in range(3):
        found = shortlisted(direction(backdoored, honest), family, all_to_one(CLASSES), 6, generator(seed))
        assert len(found) == 6
        assert Aim(TARGET) in found


def test_without_a_difference_a_class_of_both_models_is_not_preferred() -> None:
    found = shortlisted(direction(backdoored, backdoored), PATCHES, all_to_one(CLASSES), 6, generator(0))
    assert Aim(TARGET) not in found
