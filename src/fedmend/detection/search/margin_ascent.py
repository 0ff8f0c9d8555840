"""Each class's largest margin over the whole input space, by gradient ascent from random images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmend.checked_settings import Count, Positive, settings
from fedmend.detection.model_checks import without_slope
from fedmend.detection.search.chunking import in_chunks
from fedmend.detection.search.memory import images_at_once
from fedmend.errors import ModelError
from fedmend.progress import Progress, silent

_PATIENCE = 20
_GROWTH = 1e-3


@dataclass(frozen=True, eq=False)
class Margins:
    """What the ascent reached.

    Attributes:
        margins: each class's largest, float64 (classes,), on the CPU.
        note: when it ended, in words.
    """

    margins: Tensor
    note: str


@settings
class MarginAscent:
    """Projected gradient ascent on margins, all classes and restarts in one batch.

    Attributes:
        restarts: random images for each class.
        steps: at most so many; it ends early where no class's margin has grown by 0.1 % in 20 steps.
        lr: the root mean square of a step, of the pixels' range.
    """

    restarts: Count = 30
    steps: Count = 300
    lr: Positive = 0.02

    def __call__(
        self,
        model: Callable[[Tensor], Tensor],
        like: Tensor,
        memory: int,
        rng: torch.Generator,
        progress: Progress = silent,
    ) -> Margins:
        """Climb.

        Args:
            model: pixels (N, C, H, W) to logits (N, classes), with frozen weights.
            like: images, whose shape, type and device the search has.
            memory: bytes that a step may take.
            rng: on the CPU.
            progress: called as ``progress("largest margins", step, steps)``.

        Raises:
            ConfigError: not even one image fits into the memory.
            ModelError: a margin is NaN or infinite, or no margin has a gradient other than zeros to begin with.
        """
        with torch.no_grad():
            classes = model(like[:1].clone()).shape[1]
        at_once = images_at_once([model], like, memory)
        targets = torch.arange(classes, device=like.device).repeat_interleave(self.restarts)
        images = torch.rand(len(targets), *like.shape[1:], generator=rng).to(like)

        def lost(some: Tensor, rows: slice) -> Tensor:
            return -margins_of(model(some.clone()), targets[rows])

        best = torch.full((classes,), -torch.inf, dtype=torch.float64)
        history: list[Tensor] = []
        for step in range(self.steps):
            images.requires_grad_()
            reached = in_chunks(lost, images, at_once)
            (gradient,) = torch.autograd.grad(reached.sum(), images)
            if not bool(reached.isfinite().all()):
                raise ModelError(
                    "the suspect returns NaN or infinite logits on random images, where MM-BD begins; is the file "
                    "damaged?"
                )
            if step == 0 and not bool(gradient.any()):
                raise without_slope("the suspect")
            now = -reached.detach().view(classes, self.restarts).amin(1).double().cpu()
            best = torch.maximum(best, now)
            history.append(best)
            progress("largest margins", step + 1, self.steps)
            if step >= _PATIENCE and bool((best - history[-1 - _PATIENCE] <= _GROWTH * best.abs()).all()):
                return Margins(best, f"the margins stopped growing after {step + 1} steps")
            size = gradient.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-30)
            images = (images.detach() - self.lr * gradient / size).clamp(0, 1)
        return Margins(best, f"the margins were still growing when the {self.steps} steps ran out")


def margins_of(logits: Tensor, targets: Tensor) -> Tensor:
    """By how much each target's logit exceeds the largest other one.

    Args:
        logits: (N, classes). targets: int64 (N,).

    Returns:
        (N,).
    """
    own = logits.gather(1, targets[:, None]).squeeze(1)
    others = logits.scatter(1, targets[:, None], -torch.inf).amax(1)
    return own - others
