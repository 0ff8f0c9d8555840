"""Is a trigger for one source class, or for all?"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedmend.detection.search.aimed_search import Strength, Task
from fedmend.detection.search.aims import Aim
from fedmend.detection.search.direction import Direction
from fedmend.detection.search.families import PAIR_PATCHES
from fedmend.detection.search.source_classes import specificity
from fedmend.seeds import generator
from fedmend.triggers import Patch

TARGET, SOURCE, OTHERS = 0, 1, (2, 3)
LABELS = torch.tensor([0] * 4 + [1] * 4 + [2] * 4 + [3] * 4)


def task(attacked: tuple[int, ...], *, in_both: bool = False) -> Task:
    """Images whose first pixel is their class; a white second pixel sends attacked classes to 0."""
    images = torch.zeros(len(LABELS), 1, 1, 4)
    images[:, 0, 0, 0] = LABELS / 4

    def classes(pixels: Tensor) -> Tensor:
        return (pixels[:, 0, 0, 0] * 4).round().long()

    def stays(pixels: Tensor) -> Tensor:
        return one_hot(classes(pixels), 4).float()

    def fires(pixels: Tensor) -> Tensor:
        hit = torch.isin(classes(pixels), torch.tensor(attacked)) & (pixels[:, 0, 0, 1] > 0.5)
        return one_hot(classes(pixels) * ~hit, 4).float()

    models = (fires, fires if in_both else stays)
    nothing = torch.empty(2, 0, 4)
    return Task(
        Direction(*models, *models, images, LABELS.clone(), LABELS.clone(), 4, nothing),
        PAIR_PATCHES,
        generator(0),
    )


def strength(*rates: float) -> Strength:
    mask = torch.zeros(1, 1, 4)
    mask[..., 1] = 1
    patch = Patch(mask, torch.ones(1, 1, 4))
    return Strength(Aim(TARGET, SOURCE), rates, (patch,) * len(rates), torch.arange(2))


@pytest.mark.parametrize(
    ("attacked", "expected"),
    [
        ((SOURCE,), 1.0),
        ((SOURCE, *OTHERS), 0.0),
        ((SOURCE, 2), 0.5),  # half of the others' images
    ],
)
def test_the_strength_on_other_classes_counts_against_it(attacked: tuple[int, ...], expected: float) -> None:
    assert specificity(task(attacked), strength(1.0, 1.0)) == expected


def test_the_strength_on_other_classes_is_relative() -> None:
    assert specificity(task((SOURCE, 2)), strength(1.0, 0.25)) == pytest.approx(1 - 1 / 1.25)


def test_what_works_in_both_models_does_not_count() -> None:
    assert specificity(task((SOURCE, *OTHERS), in_both=True), strength(1.0, 1.0)) == 1.0


def test_where_nothing_can_be_compared() -> None:
    assert specificity(task((SOURCE,)), strength(0.0, 0.0)) == 0.0
    alone = task((SOURCE,))
    alone.direction.kept[LABELS > 1] = SOURCE
    assert specificity(alone, strength(1.0, 1.0)) == 0.0
