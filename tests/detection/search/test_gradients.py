from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedmend.detection.search.direction import Direction, Logits
from fedmend.detection.search.gradients import why_blind
from fedmend.seeds import generator

CLASSES = 4


def direction(fires: Logits, classes: int = CLASSES) -> Direction:
    images = torch.rand(24, 1, 4, 4, generator=generator(0))
    predicted = torch.arange(24) % classes
    return Direction(
        fires, fires, fires, fires, images, predicted, predicted, classes, torch.empty(2, 0, classes)
    )


def quarters(images: Tensor) -> Tensor:
    """The brightest quarter is the class."""
    return 20 * images.unfold(2, 2, 2).unfold(3, 2, 2).mean((1, 4, 5)).flatten(1)


@pytest.mark.parametrize("scale", [0.01, 1.0, 20.0])
def test_a_model_with_a_gradient_can_be_searched(scale: float) -> None:
    assert why_blind(direction(lambda images: scale * quarters(images)), generator(0)) is None


@pytest.mark.parametrize(
    ("fires", "told"),
    [
        (lambda images: quarters(images.round()), "zero everywhere"),
        (lambda images: quarters(images.detach()), "no gradient at the pixels"),
        (lambda images: quarters((images - images.detach()).sqrt() + images.detach()), "NaN or infinite"),
        (
            lambda images: quarters(2 * images.detach() - images),
            "don't reach most of the classes",
        ),  # misleading
    ],
)
def test_why_a_model_cannot_be_searched(fires: Logits, told: str) -> None:
    reason = why_blind(direction(fires), generator(0))
    assert reason is not None
    assert told in reason


@pytest.mark.parametrize("classes", [3, 4])
def test_a_gradient_of_something_else_is_noticed_although_chance_reaches_a_class(classes: int) -> None:
    rows = torch.randn(2, classes, 16, generator=generator(3))

    def fires(images: Tensor) -> Tensor:
        own, other = images.flatten(1).detach() @ rows[0].T, images.flatten(1) @ rows[1].T
        return own + other - other.detach()

    found = [why_blind(direction(fires, classes), generator(seed)) for seed in range(10)]
    assert sum(reason is not None for reason in found) >= 9


def test_classes_that_are_never_predicted_are_not_tried() -> None:
    dead = torch.tensor([0.0, 0.0, 0.0, 0.0, *[-1000.0] * 16])
    large = direction(lambda images: torch.cat([quarters(images)] * 5, 1) + dead, 20)
    fitting = replace(large, before=large.before % CLASSES)
    assert all(why_blind(fitting, generator(seed)) is None for seed in range(5))
