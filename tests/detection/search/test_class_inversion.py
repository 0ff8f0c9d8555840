"""All classes' patches in one batch, on a model whose smallest patches are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedmend.detection.lone_suspect import LoneSuspect
from fedmend.detection.search.class_inversion import ClassInversion, images_of_others
from fedmend.detection.search.patches import Regulariser
from fedmend.detection.search.penalty_schedule import Schedule
from fedmend.errors import ModelError
from fedmend.seeds import generator

SIDE = 4
NEEDED = (1, 3, 6)
"""How many white pixels an image needs to be of each class."""
PLACES = (slice(0, 1), slice(4, 7), slice(8, 14))
SEARCH = ClassInversion(
    rounds=60, batches=2, batch_size=4, schedule=Schedule(initial=0.02, patience=3, stop_after=8)
)


def logits(images: Tensor) -> Tensor:
    """A class is the likelier, the brighter the pixels in its places."""
    flat = images.flatten(1)
    return torch.stack(
        [4 * (flat[:, place].sum(1) - need + 0.5) for place, need in zip(PLACES, NEEDED, strict=True)], 1
    )


def suspect(at_once: int = 1000) -> LoneSuspect:
    images, truth = 0.2 * torch.rand(12, 1, SIDE, SIDE, generator=generator(0)), torch.arange(12) % 3
    for image, number in zip(images, truth.tolist(), strict=True):
        image.flatten()[PLACES[number]] = 1
    return LoneSuspect(logits, images, truth, 3, at_once)


def test_the_norms_rank_the_classes_by_the_pixels_that_they_need() -> None:
    found = SEARCH(suspect(), generator(1))
    assert found.reached.all()
    assert found.norms.tolist() == sorted(found.norms.tolist())
    assert found.warnings(str) == ()
    for number, (trigger, norm) in enumerate(zip(found.triggers, found.norms.tolist(), strict=True)):
        assert trigger.size == pytest.approx(norm)
        others = suspect().images[suspect().truth != number]
        assert (logits(trigger.apply(others)).argmax(1) == number).float().mean() > 0.8


def test_a_class_that_ends_early_leaves_the_others_as_they_would_be_without_it() -> None:
    """The patches of a search in which no class may end are the same until each one's end."""
    endless = replace(SEARCH, schedule=replace(SEARCH.schedule, stop_after=10_000))
    ended, whole = (replace(search, rounds=150)(suspect(), generator(1)) for search in (SEARCH, endless))
    assert "no class's patch gained any more" in ended.stop_reason
    assert whole.stop_reason == "all 150 rounds were used"
    assert (whole.norms <= ended.norms + 1e-5).all()


def test_images_computed_in_parts_give_the_same() -> None:
    whole, parts = (replace(SEARCH, rounds=5)(suspect(size), generator(1)) for size in (1000, 5))
    assert torch.allclose(whole.norms, parts.norms, rtol=1e-4)


def test_a_class_for_which_nothing_works_is_named() -> None:
    def never(images: Tensor) -> Tensor:
        return logits(images) - torch.tensor([0.0, 0.0, 1000.0])

    found = replace(SEARCH, rounds=8)(replace(suspect(), logits=never), generator(1))
    assert found.reached.tolist() == [True, True, False]
    (warning,) = found.warnings(lambda number: f"class {number}")
    assert '"class 2"' in warning


def test_regularisers_are_given_each_steps_classes_and_images() -> None:
    seen = []

    def regularisers(classes: Tensor, indices: Tensor) -> Regulariser:
        seen.append((classes.tolist(), tuple(indices.shape)))
        return lambda masks, patterns: 1e3 * masks.sum((1, 2, 3)) + patterns.sum((1, 2, 3))

    found = replace(SEARCH, rounds=3)(suspect(), generator(1), regularisers=regularisers)
    assert seen == [([0, 1, 2], (3, 4))] * 6
    assert (found.norms < replace(SEARCH, rounds=3)(suspect(), generator(1)).norms).all()


def test_a_loss_that_is_no_number_is_refused() -> None:
    with pytest.raises(ModelError, match="NaN"):
        SEARCH(replace(suspect(), logits=lambda images: logits(images) * torch.nan), generator(1))


def test_images_of_the_class_itself_are_left_out() -> None:
    order, truth = torch.tensor([5, 3, 1, 0, 2, 4]), torch.tensor([0, 1, 2, 0, 1, 0])
    chosen = images_of_others(order, truth, torch.tensor([0, 2]), 7)
    assert chosen.tolist() == [[1, 2, 4, 1, 2, 4, 1], [5, 3, 1, 0, 4, 5, 3]]
