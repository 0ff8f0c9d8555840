"""Measures how well patches work, and keeps the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fedmend.detection.search.patches import stamped

PROMISING = 0.3
_AT_ONCE = 128


class Objective(Protocol):
    """A method's objective on stamped images.

    ``stamped`` holds the images of S patches, K each, float (S, K, C, H, W); ``chosen`` are their indices among the
    search's images.
    """

    def loss(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        """The method's loss without the mask's L1 term, (S,), differentiable; ``chosen`` is (S, K)."""
        ...

    def coarse(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        """A cheaper loss, (S,), low for patches worth refining; called once per exploration step."""
        ...

    def success(self, stamped: Tensor, chosen: Tensor, at_least: float) -> Tensor:
        """How well each patch works, (S,) in [0, 1], on the same images ``chosen`` (K,) for all.

        Values below ``at_least`` may be approximate.
        """
        ...


@dataclass(frozen=True, eq=False)
class Judge:
    """Measures the success of patches, always on the same images.

    Attributes:
        objective: defines success.
        images: float (K, C, H, W). chosen: their indices among the search's images, int64 (K,).
    """

    objective: Objective
    images: Tensor
    chosen: Tensor

    @staticmethod
    def on(count: int, objective: Objective, images: Tensor, rng: torch.Generator) -> Judge:
        """A judge on ``count`` random images, or all if there are fewer."""
        chosen = torch.arange(len(images))
        if len(images) > count:
            chosen = torch.randperm(len(images), generator=rng)[:count].sort().values
        chosen = chosen.to(images.device)
        return Judge(objective, images[chosen], chosen)

    @torch.no_grad()
    def __call__(self, masks: Tensor, patterns: Tensor, at_least: float = PROMISING) -> Tensor:
        """The success of each patch, (S,); a few patches at a time, to bound memory."""
        several = max(1, _AT_ONCE // len(self.images))
        pairs = zip(masks.split(several), patterns.split(several), strict=True)
        return torch.cat(
            [
                self.objective.success(stamped(mask, pattern, self.images), self.chosen, at_least)
                for mask, pattern in pairs
            ]
        )


@dataclass(frozen=True, eq=False)
class Best:
    """The best patch so far: the smallest that works, otherwise the one with the highest success."""

    mask: Tensor
    pattern: Tensor
    working: bool = False
    success: float = -1.0

    @property
    def size(self) -> float:
        """The mask's L1 norm, in pixels."""
        return float(self.mask.sum())

    def or_better(self, success: float, working: bool, mask: Tensor, pattern: Tensor) -> Best:
        """This patch, or the given one if it is better."""
        better = (
            working and float(mask.sum()) < self.size if self.working else working or success > self.success
        )
        return Best(mask.clone(), pattern.clone(), working, success) if better else self


def smallest_mask(mask: Tensor, pattern: Tensor, judge: Judge, success: float) -> Tensor:
    """Drop the pixels with the smallest mask values, as many as possible without losing success (to an eighth).

    Args:
        mask: float (1, 1, H, W), of a patch that works; pattern: float (1, C, H, W).
        judge: measures the trimmed patches. success: what they must reach.
    """
    order = mask.flatten().argsort(descending=True)
    fails, holds, smallest = 0, int((mask > 0).sum()), mask
    while holds - fails > max(1, holds // 8):
        count = max(fails + 1, round((max(fails, 1) * holds) ** 0.5))
        tried = torch.zeros_like(mask).flatten().index_copy_(0, order[:count], mask.flatten()[order[:count]])
        tried = tried.view_as(mask)
        if float(judge(tried, pattern, success)) >= success:
            holds, smallest = count, tried
        else:
            fails = count
    return smallest
