"""The contrastive paper's search: gradient descent on one patch, with a penalty on the mask's size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedmend.checked_settings import Count, NonNegative, Positive, settings
from fedmend.detection.search.patches import Patches
from fedmend.detection.search.recovery import STAGE, Recovered, has_settled
from fedmend.progress import Progress, silent
from fedmend.triggers import Patch


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
            progress(STAGE, step, self.steps)
        return Recovered(
            trigger=Patch(mask[0], pattern[0]),
            loss_curve=tuple(losses),
            stop_reason=f"all {self.steps} steps were used",
            converged=has_settled(losses),
        )
