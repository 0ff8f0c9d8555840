"""The suspect without a reference, as a search uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmend.acceleration import accelerate
from fedmend.detection.base import Case
from fedmend.detection.model_checks import FEW_IMAGES, require_gradient, require_slope
from fedmend.detection.search.memory import allowed_memory, images_at_once
from fedmend.inference import frozen, predict
from fedmend.triggers import Trigger


@dataclass(frozen=True, eq=False)
class LoneSuspect:
    """The suspect with the images that triggers are searched on.

    Attributes:
        logits: the model, accelerated: images (N, C, H, W) to logits (N, classes).
        images: float (N, C, H, W) in [0, 1].
        truth: their classes, int64 (N,).
        classes: number of classes.
        at_once: how many images may go through the model, forward and backward, at once.
        notes: how the model was accelerated.
    """

    logits: Callable[[Tensor], Tensor]
    images: Tensor
    truth: Tensor
    classes: int
    at_once: int
    notes: tuple[str, ...] = ()

    @torch.no_grad()
    def predictions(self, images: Tensor) -> Tensor:
        """The model's class for each of the images (N, C, H, W), int64 (N,)."""
        return torch.cat([self.logits(part).argmax(1) for part in images.split(self.at_once)])


@contextmanager
def accelerated_suspect(case: Case, memory: int | None = None) -> Iterator[LoneSuspect]:
    """A case's suspect for a search, in eval mode and with frozen weights; restored at the end.

    Args:
        case: with images.
        memory: bytes that the search may take beside model and images; None for half of what is free.

    Raises:
        ModelError: the model passes no gradient to its input, or zeros.
        ConfigError: not even one image fits into the memory.
    """
    with frozen(case.suspect):
        require_gradient(case.suspect, case.pixels[:2], "the suspect")
        require_slope(case.suspect, case.pixels[:FEW_IMAGES], "the suspect")
        faster = accelerate(case.suspect, case.pixels)
        with frozen(faster.model):

            def logits(images: Tensor) -> Tensor:
                found: Tensor = faster.model(images.clone())  # a model may work in place
                return found

            at_once = images_at_once([logits], case.pixels, allowed_memory(memory, case.device))
            classes = case.suspect_logits.shape[1]
            yield LoneSuspect(logits, case.pixels, case.truth, classes, at_once, faster.notes)


@torch.no_grad()
def success_of(case: Case, trigger: Trigger, target: int) -> float:
    """The fraction of the images of other classes that the suspect as given sends to the target."""
    others = case.pixels[case.truth != target]
    if not len(others):
        return 0.0
    return float((predict(case.suspect, others, trigger) == target).float().mean())
