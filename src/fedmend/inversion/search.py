"""The search that inversion methods share: a mask and a pattern, learned by gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor

from fedmend.errors import ConfigError, ModelError
from fedmend.progress import Progress, silent
from fedmend.triggers import Trigger


@dataclass(frozen=True, eq=False)
class Judged:
    """What an objective says of the images stamped by each of S patches.

    Attributes:
        loss: the method's loss, less the mask's L1 term; (S,).
        works: how well the patch works, (S,) in [0, 1].
    """

    loss: Tensor
    works: Tensor


Objective = Callable[[Tensor, Tensor], Judged]
"""From stamped images (S, N, C, H, W), and which of the search's images they are, (N,), to what is said of them."""

_FAINT = -2.0
_SHRINK = 0.25
_VARIANT = 0.5
_FALLING = 0.1


@dataclass(frozen=True, eq=False)
class Recovered:
    """What a search ended with.

    Attributes:
        trigger: the recovered mask and pattern, on the images' device.
        loss_curve: the loss of each step; of a search with a budget, of the start that became the trigger, first on the
            exploration's few images and then on all.
        stop_reason: why the search ended, in words.
        converged: False if the loss was still falling when the steps were used up.
        variants: of a search with a budget, the patch of every start that worked on half of the images or more when
            the exploration ended, as it was then; the refined trigger comes from one of them, if there are any.
    """

    trigger: Trigger
    loss_curve: tuple[float, ...]
    stop_reason: str
    converged: bool
    variants: tuple[Trigger, ...] = ()


@dataclass(frozen=True)
class Search:
    """Gradient descent on a mask and a pattern, from random noise (contrastive paper, Algorithm 1).

    With ``beta`` given, this is the paper's search: all steps from one start on all images, and the last mask and
    pattern are the result. Without it, the mask's L1 norm has a budget instead of a price, so that there is no weight
    to tune: a mask whose sum is above the budget is scaled down to it.

    - **Explore**: ``starts`` random starts run side by side, each step on a few random images. The budget shrinks from
      ``max_mask_share`` of the image's pixels to a quarter of that, so that a patch which needs many pixels loses to
      one that needs few.
    - **Refine**: the start that works best goes on, on all images. While a patch works on
      ``success`` of them its budget shrinks, else it grows; the smallest patch that works is the result.

    Attributes:
        beta: weight of the mask's L1 norm, per pixel; None for a budget.
        steps: gradient steps: of the paper's search; else of the refinement, at most.
        lr: Adam's learning rate (ours: the paper names none).
        max_mask_share: the largest mask, as a share in (0, 1] of the image. Like those below, for a search with a
            budget.
        success: how well, in (0, 1], a trigger must work to be made smaller.
        starts: random starts of an exploration.
        explore: steps of an exploration.
        batch_size: images of a step of the exploration.
        patience: steps without a smaller trigger after which the refinement stops.

    Raises:
        ConfigError: a setting is out of range.
    """

    beta: float | None = None
    steps: int = 300
    lr: float = 0.2
    max_mask_share: float = 0.125
    success: float = 0.95
    starts: int = 16
    explore: int = 80
    batch_size: int = 8
    patience: int = 30

    def __post_init__(self) -> None:
        counts = (self.steps, self.starts, self.explore, self.batch_size, self.patience)
        if min(counts) < 1:
            raise ConfigError(
                f"steps, starts, explore, batch_size and patience must be 1 or more; got {self}"
            )
        if not 0 < self.lr < float("inf"):
            raise ConfigError(f"lr must be above 0 and finite; got {self.lr}")
        if self.beta is not None and not 0 <= self.beta < float("inf"):
            raise ConfigError(f"beta must be 0 or more, or None for a budget; got {self.beta}")
        if not 0 < self.success <= 1 or not 0 < self.max_mask_share <= 1:
            raise ConfigError(f"success and max_mask_share must be above 0 and at most 1; got {self}")

    def __call__(
        self,
        objective: Objective,
        images: Tensor,
        generator: torch.Generator,
        progress: Progress = silent,
    ) -> Recovered:
        """Minimise the objective, with the L1 term or within the budget.

        Args:
            objective: see :data:`Objective`; differentiable in the stamped images.
            images: float (N, C, H, W) in [0, 1].
            generator: on the CPU, for the random starts and the exploration's choice of images.
            progress: called as ``progress("trigger inversion", step, steps)``.

        Raises:
            ModelError: the loss became NaN or infinite.
        """
        if self.beta is not None:
            return self._papers(self.beta, objective, images, generator, progress)
        largest = self.max_mask_share * images[0, 0].numel()
        patches = _Patches.random(self.starts, images, generator, _FAINT)
        curves, works = self._explore(patches, largest, objective, images, generator, progress)
        best = max(range(self.starts), key=lambda start: (float(works[start]), -float(curves[-1, start])))
        found = self._refine(
            patches.only(best), largest, curves[:, best].tolist(), objective, images, progress
        )
        progress("trigger inversion", self.explore + self.steps, self.explore + self.steps)
        masks, patterns = patches.masks(largest * _SHRINK).detach(), patches.patterns().detach()
        halves = (works >= _VARIANT).nonzero().flatten().tolist()
        return replace(found, variants=tuple(Trigger(masks[start], patterns[start]) for start in halves))

    def _papers(
        self,
        beta: float,
        objective: Objective,
        images: Tensor,
        generator: torch.Generator,
        progress: Progress,
    ) -> Recovered:
        patches = _Patches.random(1, images, generator, offset=0.0)
        losses: list[float] = []
        for step in range(1, self.steps + 1):
            mask, pattern = patches.masks(), patches.patterns()
            judged = objective(_stamp(mask, pattern, images), _everyone(images))
            losses += patches.descend(judged.loss + beta * mask.sum(), self.lr).tolist()
            progress("trigger inversion", step, self.steps)
        return Recovered(
            trigger=Trigger(mask[0].detach(), pattern[0].detach()),
            loss_curve=tuple(losses),
            stop_reason=f"all {self.steps} steps were used",
            converged=_fall(losses) <= _FALLING,
        )

    def _explore(
        self,
        patches: _Patches,
        largest: float,
        objective: Objective,
        images: Tensor,
        generator: torch.Generator,
        progress: Progress,
    ) -> tuple[Tensor, Tensor]:
        """The losses (steps, S), and how well each patch then works on all images, (S,)."""
        losses = []
        for step in range(1, self.explore + 1):
            chosen = torch.randperm(len(images), generator=generator)[: self.batch_size].to(images.device)
            budget = largest * _SHRINK ** ((step - 1) / self.explore)
            judged = objective(_stamp(patches.masks(budget), patches.patterns(), images[chosen]), chosen)
            patches.descend(judged.loss, self.lr)
            losses.append(judged.loss.detach())
            progress("trigger inversion", step, self.explore + self.steps)
        with torch.no_grad():
            masks, patterns = patches.masks(largest * _SHRINK), patches.patterns()
            works = [
                objective(_stamp(mask[None], pattern[None], images), _everyone(images)).works
                for mask, pattern in zip(masks, patterns, strict=True)
            ]
        return torch.stack(losses), torch.cat(works)

    def _refine(
        self,
        patch: _Patches,
        largest: float,
        explored: list[float],
        objective: Objective,
        images: Tensor,
        progress: Progress,
    ) -> Recovered:
        """Make one patch as small as it may be, or larger until it works."""
        losses = list(explored)
        budget, best, stop_reason = largest * _SHRINK, _Best(patch.masks()[0], patch.patterns()[0]), ""
        for step in range(1, self.steps + 1):
            mask, pattern = patch.masks(budget), patch.patterns()
            judged = objective(_stamp(mask, pattern, images), _everyone(images))
            losses += patch.descend(judged.loss, self.lr).tolist()
            works, size = float(judged.works), float(mask.detach().sum())
            working = bool(judged.works >= self.success)  # in single precision: 19 of 20 are 0.95
            best = best.or_better(works, working, size / images[0, 0].numel(), mask[0], pattern[0], step)
            budget = (
                min(budget, size) * 0.98
                if working
                else min(largest, budget * (1.02 if best.working else 1.05))
            )
            progress("trigger inversion", self.explore + step, self.explore + self.steps)
            if step - best.step >= self.patience:
                nothing = f"no patch within {self.max_mask_share:.1%} of the image worked"
                smaller = f"no smaller trigger worked for {self.patience} steps"
                stop_reason = smaller if best.working else nothing
                break
        return Recovered(
            trigger=Trigger(best.mask, best.pattern),
            loss_curve=tuple(losses),
            stop_reason=stop_reason or f"all {self.steps} steps were used",
            converged=bool(stop_reason) or best.working or _fall(losses) <= _FALLING,
        )


class _Patches:
    """The masks and patterns of S patches, learned side by side."""

    def __init__(self, masks: Tensor, patterns: Tensor) -> None:
        self._masks, self._patterns = masks.requires_grad_(), patterns.requires_grad_()
        self._optimizer: torch.optim.Optimizer | None = None

    @staticmethod
    def random(count: int, images: Tensor, generator: torch.Generator, offset: float) -> _Patches:
        channels, height, width = images.shape[1:]
        masks = torch.randn(count, 1, height, width, generator=generator) + offset
        patterns = torch.randn(count, channels, height, width, generator=generator)
        return _Patches(masks.to(images), patterns.to(images))

    def only(self, index: int) -> _Patches:
        """One of them, to be learned on from where it is."""
        return _Patches(self._masks[[index]].detach(), self._patterns[[index]].detach())

    def masks(self, budget: float | None = None) -> Tensor:
        """(S, 1, H, W) in [0, 1]; each of them scaled down to a sum of ``budget``, if it is above."""
        masks = self._masks.sigmoid()
        if budget is None:
            return masks
        sums = masks.sum((1, 2, 3), keepdim=True)
        return masks * (budget / sums.clamp_min(1e-12)).clamp_max(1)

    def patterns(self) -> Tensor:
        """(S, C, H, W) in [0, 1]."""
        return self._patterns.sigmoid()

    def descend(self, losses: Tensor, lr: float) -> Tensor:
        """Take a step against the gradient of each patch's own loss, (S,), which is returned.

        Raises:
            ModelError: a loss is NaN or infinite.
        """
        if not bool(losses.isfinite().all()):
            raise ModelError("the search's loss became NaN or infinite: does the model answer finite logits?")
        if self._optimizer is None:
            self._optimizer = torch.optim.Adam([self._masks, self._patterns], lr, betas=(0.5, 0.9))
        self._optimizer.zero_grad()
        losses.sum().backward()
        self._optimizer.step()
        return losses.detach()


def _stamp(masks: Tensor, patterns: Tensor, images: Tensor) -> Tensor:
    """Every image with every patch, (S, N, C, H, W)."""
    masks, patterns = masks[:, None], patterns[:, None]
    return masks * patterns + (1 - masks) * images


def _everyone(images: Tensor) -> Tensor:
    return torch.arange(len(images), device=images.device)


@dataclass(frozen=True, eq=False)
class _Best:
    """The best patch so far: the smallest of those that work, else the one that works on most images."""

    mask: Tensor
    pattern: Tensor
    working: bool = False
    score: float = float("-inf")
    step: int = 0

    @property
    def rank(self) -> tuple[bool, float]:
        """Higher is better."""
        return self.working, self.score

    def or_better(
        self, works: float, working: bool, mask_share: float, mask: Tensor, pattern: Tensor, step: int
    ) -> _Best:
        score = -mask_share if working else works - mask_share
        if (working, score) <= self.rank:
            return self
        news = working != self.working or score > self.score + 0.01 * abs(self.score)
        return _Best(
            mask.detach().clone(), pattern.detach().clone(), working, score, step if news else self.step
        )


def _fall(losses: list[float]) -> float:
    """How far the mean loss fell from the third quarter of the steps to the last; infinite if there are too few."""
    window = len(losses) // 4
    if window == 0:
        return float("inf")
    return fmean(losses[-2 * window : -window]) - fmean(losses[-window:])
