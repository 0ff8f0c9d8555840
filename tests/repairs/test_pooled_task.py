"""The self-distillation against pooled triggers."""

import pytest
import torch
from tiny_nets import linear

from fedmend.detection import FoundTrigger
from fedmend.local_training import LocalTraining
from fedmend.repairs.distillation import Distillation
from fedmend.repairs.trigger_pool import TriggerPool
from fedmend.triggers import Addition, Patch

SHAPE = (1, 8, 16)
TEACHER = linear(4, 1, SHAPE[1:])


def white(place: tuple[int, int], rate: float) -> FoundTrigger:
    mask = torch.zeros(1, *SHAPE[1:])
    mask[0, place[0], place[1]] = 1
    return FoundTrigger(Patch(mask, torch.ones(SHAPE)), 0, 1, rate)


def pool() -> TriggerPool:
    return TriggerPool(SHAPE, 4, 4)


def filled() -> TriggerPool:
    made = pool()
    made.add(3, [white((1, 2), 0.2), white((7, 15), 0.9)])
    made.add(1, [white((4, 4), 0.5), white((5, 5), 0.9)])
    return made


TRAINING = LocalTraining(epochs=1, batch_size=8)


def test_a_task_holds_every_trigger_weighted_by_the_cube_of_its_rate() -> None:
    made, teacher, how = filled(), TEACHER, Distillation(decay=0.7)
    task = made.task(teacher, TRAINING, how, 1)
    assert (task.teacher, task.settings, task.training) == (teacher, how, TRAINING)
    assert task.weights.tolist() == pytest.approx([0.009, 0.730, 0.126, 0.730])
    assert task.kept.shape == task.added.shape == (4, *SHAPE)
    clean = torch.rand(SHAPE)
    for index, (_, each) in enumerate(made.found):
        stamped = task.kept[index] * clean + task.added[index]
        assert torch.equal(stamped, each.trigger.apply(clean[None])[0])


def test_a_faint_pattern_is_added_and_has_no_pixels() -> None:
    made = pool()
    assert made.add(0, [FoundTrigger(Addition(torch.full(SHAPE, 0.1)), 0, 1, 0.5)]) is None
    task = made.task(TEACHER, TRAINING, Distillation(), 1)
    assert bool((task.kept == 1).all())
    assert task.added.unique().tolist() == pytest.approx([0.1])
    assert made.listed()[0].pixels == ()


@pytest.mark.parametrize(("number", "lr"), [(1, 0.4), (2, 0.2), (4, 0.05)])
def test_the_learning_rate_decays_from_round_to_round(number: int, lr: float) -> None:
    task = pool().task(TEACHER, TRAINING, Distillation(lr=0.4, decay=0.5), number)
    assert task.lr == pytest.approx(lr)


def test_a_trigger_that_does_nothing_can_still_be_drawn() -> None:
    made = pool()
    made.add(0, [white((0, 0), 0.0)])
    assert float(made.task(TEACHER, TRAINING, Distillation(), 1).weights.sum()) > 0


def test_the_task_of_an_empty_pool_has_no_trigger() -> None:
    task = TriggerPool((3, 8, 16), 4, 2).task(TEACHER, TRAINING, Distillation(), 1)
    assert (task.kept.shape, task.added.shape, task.weights.shape) == (
        *((0, 1, 8, 16), (0, 3, 8, 16)),
        (0,),
    )
