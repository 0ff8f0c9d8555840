from __future__ import annotations

import pytest
import torch

from fedmend.detection.search.trigger_generator import Descent, TriggerGenerator
from fedmend.seeds import generator

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 40, 33)], ids=["small", "large"])
def test_a_trigger_for_every_class_that_is_faint_at_first(shape: tuple[int, int, int]) -> None:
    triggers = TriggerGenerator(4, shape, 3, generator(0), CPU)().detach()
    assert triggers.shape == (4, *shape)
    assert float(triggers.abs().max()) < 0.5
    assert float((triggers[0] - triggers[1]).abs().max()) > 0


def test_the_class_alone_can_decide_the_trigger() -> None:
    """Training brings each class to a trigger of its own, whatever the noise."""
    made = TriggerGenerator(3, (1, 6, 6), 2, generator(0), CPU)
    wanted = torch.zeros(3, 1, 6, 6)
    for number in range(3):
        wanted[number, 0, number, 2 * number] = 1 if number else -1
    descent = Descent(made.weights, 0.01)
    for _ in range(150):
        descent.step((made() - wanted).square().sum())
    assert float((made().detach() - wanted).abs().max()) < 0.3


def test_the_same_seed_gives_the_same_triggers() -> None:
    first, same, other = (TriggerGenerator(2, (1, 4, 4), 2, generator(seed), CPU)() for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
