"""The contrastive paper's search: gradient descent on one patch, with a penalty on the mask's size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from fedmend.checked_settings import Count, NonNegative, Positive, settings
from fedmend.detection.search.patches import Patches
from fedmend.progress import Progress, silent
from fedmend.triggers import Patch

_STAGE = "trigger inversion"
_FALLING = 0.1


@dataclass(frozen=True, eq=False)
class Recovered:
    """A recovered trigger and how the search went.

    Attributes:
        trigger: the last mask and pattern, on the images' device.
        loss_curve: the loss of each step.
        stop_reason: why the search ended.
        converged: False if the loss was still falling when the steps ran out.
    """

    trigger: Patch
    loss_curve: tuple[float, ...]
    stop_reason: str
    converged: bool


@settings
class PenaltySearch:
    """One random start, optimised on all images; the last mask and pattern are the result (Algorithm 1).

    Attributes:
        beta: weight of the mask's L1 norm, per pixel.
        steps: gradient steps.
        lr: Adam's learning rate (the paper names none).
    """

    beta: NonNegative
    steps: Count = 500
    lr: Positive = 0.1

    def __call__(
        self,
        loss: Callable[[Tensor, Tensor], Tensor],
        images: Tensor,
        rng: torch.Generator,
        progress: Progress = silent,
    ) -> Recovered:
        """Minimise ``loss`` plus the penalty.

        Args:
            loss: from the stamped images, (1, N, C, H, W), and their indices, (1, N), to (1,); differentiable.
            images: float (N, C, H, W) in [0, 1].
            rng: on the CPU, for the random start.
            progress: called as ``progress("trigger inversion", step, steps)``.

        Raises:
            ModelError: the loss became NaN or infinite.
        """
        patches = Patches.random(1, images, rng, offset=0.0)
        everything = torch.arange(len(images), device=images.device)[None]
        losses: list[float] = []
        for step in range(1, self.steps + 1):
            mask, pattern = patches()
            now = patches.descend(
                images[None], lambda stamped: loss(stamped, everything), self.lr, penalty=self.beta
            )
            losses += now.tolist()
            progress(_STAGE, step, self.steps)
        return Recovered(
            trigger=Patch(mask[0], pattern[0]),
            loss_curve=tuple(losses),
            stop_reason=f"all {self.steps} steps were used",
            converged=has_settled(losses),
        )


def has_settled(losses: list[float]) -> bool:
    """Whether the mean loss of the last quarter of the steps is at most 0.1 below that of the quarter before."""
    return fall(losses) <= _FALLING


def fall(losses: list[float]) -> float:
    """The drop of the mean loss from the third quarter of the steps to the last; infinite for under four steps."""
    window = len(losses) // 4
    if window == 0:
        return float("inf")
    return fmean(losses[-2 * window : -window]) - fmean(losses[-window:])
