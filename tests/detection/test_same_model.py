"""A pair that is one model is refused: comparing it says nothing."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.detection import Case, scan
from fedmend.detection.same_model import refuse_same_logits, refuse_same_weights
from fedmend.errors import ModelError


def refused(world: planted.World, suspect: nn.Module, reference: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        scan(Case(suspect, reference, world.images[:12], world.labels[:12]))


def test_the_same_weights(world: planted.World) -> None:
    message = (
        "suspect and reference have the same weights; .*whatever is in it.*a reference that was verified"
    )
    refused(world, world.backdoored, world.backdoored, message)
    refused(world, world.backdoored, deepcopy(world.backdoored), message)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_rounded_copy(world: planted.World, dtype: torch.dtype) -> None:
    copy = deepcopy(world.backdoored).to(dtype).float()
    for pair in ((world.backdoored, copy), (copy, world.backdoored)):
        refused(world, *pair, f"the same weights after rounding to {str(dtype).removeprefix('torch.')}")


def test_other_weights_that_compute_the_same(world: planted.World) -> None:
    class Padded(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model, self.unused = model, nn.Parameter(torch.ones(3))

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.model(images)
            return logits

    refused(world, Padded(world.clean), world.clean, "return the same logits for every image")


def test_models_without_weights_are_not_the_same() -> None:
    class Mean(nn.Module):
        def __init__(self, sign: float) -> None:
            super().__init__()
            self.sign = sign

        def forward(self, images: Tensor) -> Tensor:
            mean = images.mean((1, 2, 3)) - 0.5
            return torch.stack([self.sign * mean, -mean], 1)

    images = torch.linspace(0, 1, 12).view(12, 1, 1, 1).expand(-1, 1, 4, 4)
    labels = (images[:, 0, 0, 0] < 0.5).long()
    refused_never = scan(Case(Mean(1), Mean(2), images, labels))
    assert refused_never.num_images == 12


def test_a_head_trained_alone_makes_another_model(world: planted.World) -> None:
    suspect = deepcopy(world.reference)
    with torch.no_grad():
        suspect[5].weight += 0.01  # type: ignore[index, union-attr, operator]
    refuse_same_weights(Case(suspect, world.reference))


def test_a_suspect_that_copies_the_reference_on_the_images_alone_is_another_model() -> None:
    class Sum(nn.Module):
        """Beyond its limit it returns something else."""

        def __init__(self, limit: float) -> None:
            super().__init__()
            self.limit = limit

        def forward(self, images: Tensor) -> Tensor:
            total = images.sum((1, 2, 3))
            return torch.stack([total, total.where(total < self.limit, -total)], 1)

    dark = torch.zeros(12, 1, 4, 4)
    refuse_same_logits(Case(Sum(0.5), Sum(1e9), dark))
    with pytest.raises(ModelError, match="the same logits for every image"):
        refuse_same_logits(Case(Sum(1e8), Sum(1e9), dark))
