"""Triggers from a generator, on a model whose smallest triggers are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedmend.detection.lone_suspect import LoneSuspect
from fedmend.detection.search.generated_triggers import GeneratedTriggers
from fedmend.detection.search.penalty_schedule import Schedule
from fedmend.errors import ModelError
from fedmend.seeds import generator

NEEDED = (1.0, 4.0, 9.0)
"""By how much the pixels of a row must be brighter for each class."""
SEARCH = GeneratedTriggers(
    rounds=60, batches=3, batch_size=4, lr=0.01, schedule=Schedule(initial=0.02, patience=3, success=0.95)
)


def logits(images: Tensor) -> Tensor:
    rows = images[:, 0].unflatten(1, (3, 4)).sum((2, 3))
    return 4 * (rows - torch.tensor(NEEDED))


def suspect() -> LoneSuspect:
    images = 0.02 * torch.rand(12, 1, 12, 4, generator=generator(0))
    return LoneSuspect(logits, images, torch.arange(12) % 3, 3, 1000)


def test_the_norms_rank_the_classes_by_the_change_that_they_need() -> None:
    found = SEARCH(suspect(), generator(1))
    assert found.reached.all()
    assert found.norms.tolist() == sorted(found.norms.tolist())
    for number, (trigger, norm) in enumerate(zip(found.triggers, found.norms.tolist(), strict=True)):
        assert float(trigger.delta.abs().sum()) == pytest.approx(norm)
        others = suspect().images[suspect().truth != number]
        assert (logits(trigger.apply(others)).argmax(1) == number).float().mean() > 0.7


def test_without_a_penalty_triggers_grow() -> None:
    free = replace(SEARCH, rounds=20, bound=1e6)(suspect(), generator(1))
    strict = replace(SEARCH, rounds=20, schedule=Schedule(initial=5.0))(suspect(), generator(1))
    assert free.norms.sum() > 2 * strict.norms.sum()


def test_the_loss_is_that_of_the_paper() -> None:
    """Of one black image: cross-entropy, and the squared distance of the target's probability from 1."""
    alone = replace(suspect(), images=torch.zeros(1, 1, 12, 4), truth=torch.tensor([2]))
    losses, works = replace(SEARCH, realism=0.5)._attack(alone, torch.zeros(3, 1, 1, 12, 4))
    probabilities = (-4 * torch.tensor(NEEDED)).softmax(0)
    assert torch.allclose(losses, -probabilities.log() + 0.5 * (1 - probabilities) ** 2)
    assert works.tolist() == [1, 0, 0]


def test_a_loss_that_is_no_number_is_refused() -> None:
    with pytest.raises(ModelError, match="NaN"):
        SEARCH(replace(suspect(), logits=lambda images: logits(images) * torch.nan), generator(1))
