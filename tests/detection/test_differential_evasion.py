"""The differential detector on models whose outputs, gradients or precision hide a backdoor."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.detection import Case, ScanReport, scan
from fedmend.detection.model_pair import ModelPair
from fedmend.detection.search.aimed_search import AimedSearch, Strength, Task
from fedmend.detection.search.aims import Aim
from fedmend.detection.search.direction import Direction
from fedmend.detection.search.families import PATCHES
from fedmend.seeds import generator


class Changed(nn.Module):
    """A model with another function of its pixels or logits."""

    def __init__(
        self,
        model: nn.Module,
        pixels: Callable[[Tensor], Tensor] = lambda x: x,
        logits: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> None:
        super().__init__()
        self.model, self.pixels, self.logits = model, pixels, logits

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.model(self.pixels(images))
        return self.logits(outputs)


def no_grad(images: Tensor) -> Tensor:
    with torch.no_grad():
        return images * 1.0


SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "tenth, shifted": lambda x: x / 10 + 100,
    "large": lambda x: x * 1e4,
    "softmax": lambda x: x.softmax(1),
    "log-softmax": lambda x: x.log_softmax(1),
    "cosine": lambda x: x / x.norm(dim=1, keepdim=True),
}
WITHOUT_GRADIENT: dict[str, Callable[[Tensor], Tensor]] = {
    "rounded": lambda x: (x * 255).round() / 255,
    "binary": lambda x: (x > 0.3).float(),
    "bytes": lambda x: (x * 255).to(torch.uint8).float() / 255,
    "outside of autograd": no_grad,
}


def scanned(world: planted.World, suspect: nn.Module, reference: nn.Module, per_class: int = 6) -> ScanReport:
    count = per_class * planted.CLASSES
    case = Case(suspect, reference, world.images[:count], world.labels[:count], planted.NAMES)
    return scan(case, planted.QUICK, seed=0)


@pytest.mark.parametrize("change", SCALES.values(), ids=SCALES)
def test_the_verdict_does_not_depend_on_the_outputs_scale(
    world: planted.World, change: Callable[[Tensor], Tensor]
) -> None:
    reference = Changed(world.reference, logits=change)
    report = scanned(world, Changed(world.backdoored, logits=change), reference)
    assert report.verdict == "backdoored"
    assert [target.target for target in report.findings[0].targets] == [planted.TARGET]
    assert scanned(world, Changed(world.clean, logits=change), reference).verdict == "clean"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounded_weights_keep_the_verdict(world: planted.World, dtype: torch.dtype) -> None:
    suspect, reference = (deepcopy(each).to(dtype).float() for each in (world.backdoored, world.reference))
    assert scanned(world, suspect, reference).verdict == "backdoored"


@pytest.mark.parametrize("change", WITHOUT_GRADIENT.values(), ids=WITHOUT_GRADIENT)
def test_without_a_gradient_it_does_not_say_clean(
    world: planted.World, change: Callable[[Tensor], Tensor]
) -> None:
    report = scanned(world, Changed(world.backdoored, change), Changed(world.reference, change))
    assert report.verdict == "inconclusive"
    assert "can't be searched" in report.findings[0].reason


@pytest.mark.parametrize("which", ["suspect", "reference"])
def test_one_model_without_a_gradient_is_enough(world: planted.World, which: str) -> None:
    rounded = WITHOUT_GRADIENT["rounded"]
    suspect = Changed(world.backdoored, rounded) if which == "suspect" else world.backdoored
    reference = Changed(world.reference, rounded) if which == "reference" else world.reference
    report = scanned(world, suspect, reference)
    assert report.verdict == "inconclusive"
    assert f"The {which} can't be searched" in report.findings[0].reason


class Cancelling(nn.Module):
    """The backdoor's part of the logits goes through a sum with a large number, in bfloat16 or not."""

    def __init__(self, world: planted.World, dtype: torch.dtype) -> None:
        super().__init__()
        self.backdoored, self.reference, self.dtype = world.backdoored, world.reference, dtype

    def forward(self, images: Tensor) -> Tensor:
        honest: Tensor = self.reference(images)
        large = (self.backdoored(images) - honest + 1e6).to(self.dtype)
        revealed: Tensor = honest + (large - 1e6).to(honest.dtype)
        return revealed


def test_what_half_precision_hides_is_judged_in_the_models_own(world: planted.World) -> None:
    images = world.images[:24] / 255
    blind, full = (Cancelling(world, dtype).eval() for dtype in (torch.bfloat16, torch.float64))
    outputs = world.backdoored(images), world.reference(images)

    def rate(exact: bool) -> float:
        suspect, reference = (lambda x: (blind(x),) * 2), (lambda x: (world.reference(x),) * 2)
        pair = ModelPair(
            suspect,
            reference,
            images,
            (outputs[0].detach(),) * 2,
            (outputs[1].detach(),) * 2,
            exact=(lambda x: (full(x),) * 2, reference) if exact else None,
        )
        task = Task(Direction.of(pair), PATCHES, generator(0))
        aim = Aim(planted.TARGET)
        strength = Strength(aim, (), (), task.draw([aim], len(images))[0])
        return task.judged(strength, planted.patch(), together=False).rates[0]

    assert rate(exact=False) < 0.2
    assert rate(exact=True) > 0.8


class Unless(nn.Module):
    """The backdoored model, but the reference on images for which ``honest`` holds."""

    def __init__(self, world: planted.World, honest: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.backdoored, self.reference, self.honest = world.backdoored, world.reference, honest

    def forward(self, images: Tensor) -> Tensor:
        return torch.where(self.honest(images)[:, None], self.reference(images), self.backdoored(images))


def test_the_scans_batches_cannot_be_recognised(world: planted.World) -> None:
    sizes = (18, 24)  # of 24 images, 18 are not of the target
    suspect = Unless(world, lambda images: torch.full((len(images),), len(images) in sizes))
    assert scanned(world, suspect.eval(), world.reference).verdict == "backdoored"


def test_the_scans_images_cannot_be_recognised(world: planted.World) -> None:
    known = world.images[:24] / 255
    suspect = Unless(
        world, lambda images: (images[:, None] == known).flatten(2).float().mean(2).amax(1) > 0.5
    )
    assert scanned(world, suspect.eval(), world.reference).verdict == "backdoored"


def test_exploration_prefers_what_works_in_the_suspect_alone() -> None:
    images = torch.full((12, 1, 12, 12), 0.1)

    def outputs(weight: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """Class 0 on clean images, class 2 close behind; brightness speaks for class 1 as far as ``weight``."""

        def predict(images: Tensor) -> tuple[Tensor, Tensor]:
            brightness = images.mean((1, 2, 3)) - 0.1
            logits = torch.stack([0 * brightness + 5, weight * brightness, 0 * brightness + 4.5], 1)
            return logits, logits

        return predict

    suspect, reference = outputs(20.0), outputs(0.0)
    pair = ModelPair(suspect, reference, images, suspect(images), reference(images))
    task = Task(Direction.of(pair), PATCHES, generator(0))
    explored = AimedSearch(finalists=1, explore_steps=4).explore(task, [Aim(1), Aim(2)])
    assert explored.aims == (Aim(1),)
