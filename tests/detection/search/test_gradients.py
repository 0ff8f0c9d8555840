import pytest
import torch
from torch import Tensor

from fedmend.detection.search.direction import Direction, Logits
from fedmend.detection.search.gradients import why_blind
from fedmend.seeds import generator

CLASSES = 4


def direction(fires: Logits) -> Direction:
    images = torch.rand(6, 1, 4, 4, generator=generator(0))
    nothing = torch.zeros(6, dtype=torch.int64)
    return Direction(
        fires, fires, fires, fires, images, nothing, nothing, CLASSES, torch.empty(2, 0, CLASSES)
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
            "no pattern over the whole image",
        ),  # misleading
    ],
)
def test_why_a_model_cannot_be_searched(fires: Logits, told: str) -> None:
    reason = why_blind(direction(fires), generator(0))
    assert reason is not None
    assert told in reason
