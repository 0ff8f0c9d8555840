from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedmend.detection.search.aimed_search import Strength, Task
from fedmend.detection.search.aims import Aim
from fedmend.detection.search.direction import Direction
from fedmend.detection.search.families import PATCHES
from fedmend.detection.search.recovering import recover, smallest
from fedmend.errors import ModelError
from fedmend.evaluation import mask_iou
from fedmend.seeds import generator
from fedmend.triggers import Addition, Patch

SIDE, COUNT = 12, 10
IMAGES = torch.rand(COUNT, 1, SIDE, SIDE, generator=generator(0)) / 4
PLANTED, SHARED = torch.zeros(1, SIDE, SIDE), torch.zeros(1, SIDE, SIDE)
PLANTED[:, 2:5, 2:5] = 1
SHARED[:, 7:10, 7:10] = 1

Margin = Callable[[Tensor], Tensor]


def brightness(images: Tensor, where: Tensor) -> Tensor:
    return (images * where).sum((1, 2, 3)) / where.sum()


def task(fires: Margin, stays: Margin) -> Task:
    """Models of two classes with these margins of class 1 over class 0."""

    def logits(margin: Margin) -> Margin:
        return lambda images: torch.stack([torch.zeros(len(images)), margin(images)], 1)

    zeros = torch.zeros(COUNT, dtype=torch.int64)
    models = logits(fires), logits(stays)
    return Task(
        Direction(*models, *models, IMAGES, zeros, zeros, 2, torch.empty(2, 0, 2)), PATCHES, generator(1)
    )


def strength(*triggers: Patch | Addition, rates: tuple[float, ...] = (1.0, 0.9, 0.2)) -> Strength:
    return Strength(Aim(1), rates, triggers, torch.arange(COUNT))


def faint(level: float) -> Patch:
    noise = torch.rand(1, SIDE, SIDE, generator=generator(2))
    return Patch(level * noise, noise)


FAINT = (faint(0.3), faint(0.2), faint(0.1))


def test_the_planted_pixels_are_recovered_and_no_others() -> None:
    found, success = recover(
        task(
            lambda images: 12 * brightness(images, PLANTED) - 8, lambda images: -8 + 0 * images.sum((1, 2, 3))
        ),
        strength(*FAINT),
    )
    assert isinstance(found, Patch)
    assert mask_iou(found.mask, PLANTED) >= 0.8
    assert set(found.mask.unique().tolist()) == {0.0, 1.0}
    assert success == 1.0


def test_pixels_that_work_in_both_models_are_not_the_planted_ones() -> None:
    def both(images: Tensor) -> Tensor:
        return 12 * brightness(images, SHARED) - 8

    found, _ = recover(
        task(lambda images: 9 * brightness(images, PLANTED) + both(images), both), strength(*FAINT)
    )
    assert isinstance(found, Patch)
    assert mask_iou(found.mask, PLANTED) >= 0.6
    assert float((found.mask * SHARED).sum()) == 0


def test_what_works_worse_than_the_scans_trigger_is_not_taken() -> None:
    found, success = recover(
        task(lambda images: brightness(images, PLANTED) - 8, lambda images: -8 + 0 * images.sum((1, 2, 3))),
        strength(*FAINT),
    )
    assert found is FAINT[1]
    assert success == 0.9


def test_additive_perturbations_stay_as_the_scan_found_them() -> None:
    deltas = [Addition(torch.full((1, SIDE, SIDE), level)) for level in (0.1, 0.06, 0.04)]
    found, success = recover(
        task(lambda images: images.sum((1, 2, 3)), lambda images: images.sum((1, 2, 3))), strength(*deltas)
    )
    assert found is deltas[1]
    assert success == 0.9


def test_the_smallest_trigger_that_works_nearly_as_well_as_the_best() -> None:
    assert smallest(strength(*FAINT, rates=(0.8, 1.0, 0.85))) == (FAINT[2], 0.85)
    assert smallest(strength(*FAINT, rates=(0.8, 1.0, 0.84))) == (FAINT[1], 1.0)


def test_a_loss_that_is_no_number_is_reported() -> None:
    nan = task(lambda images: images.sum((1, 2, 3)) * float("nan"), lambda images: images.sum((1, 2, 3)))
    with pytest.raises(ModelError, match="NaN or infinite"):
        recover(nan, strength(*FAINT))
