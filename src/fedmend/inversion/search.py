"""The search that inversion methods share: a mask and a pattern, learned by gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Protocol

import torch
from torch import Tensor

from fedmend.errors import ConfigError, ModelError
from fedmend.progress import Progress, silent
from fedmend.triggers import Trigger


class Objective(Protocol):
    """What a method wants of stamped images.

    ``stamped`` are images with S patches, (S, K, C, H, W), and ``chosen`` which of the search's images these are, (K,).
    """

    def loss(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        """The method's loss, less the mask's L1 term, (S,); differentiable in the stamped images."""
        ...

    def coarse(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        """A cheaper loss, (S,), that is low for patches worth a closer look."""
        ...

    def works(self, stamped: Tensor) -> Tensor:
        """How well each patch works, (S,) in [0, 1], from all images in their order."""
        ...


_FAINT = -2.0
_BETAS, _EPSILON = (0.5, 0.9), 1e-8
_SHRINK = 0.25
_VARIANT = 0.5
_FALLING = 0.1
_STRIDE = 10
_PROMISING = 0.3


@dataclass(frozen=True, eq=False)
class Recovered:
    """What a search ended with.

    Attributes:
        trigger: the recovered mask and pattern, on the images' device.
        loss_curve: the loss of each step; of a search with a budget, of the start that became the trigger, first the
            exploration's coarse losses and then the refinement's, each on the step's few images.
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

    - **Explore**: ``starts`` random starts run side by side, each step on a few random images, by an objective that may
      be cheaper than the full one. The budget shrinks from ``max_mask_share`` of the image's pixels to a quarter of
      that, so that a patch which needs many pixels loses to one that needs few.
    - **Refine**: the start that works best is judged on all images. While it works on ``success`` of them, the pixels
      with the smallest part in the mask are left out, as many as it can do without, and it learns on within four
      fifths of what is left. Until then the budget doubles, or where next to nothing works goes to the largest at
      once. The smallest patch that works is the result.

    Attributes:
        beta: weight of the mask's L1 norm, per pixel; None for a budget.
        steps: gradient steps: of the paper's search; else of the refinement, at most.
        lr: Adam's learning rate (ours: the paper names none).
        max_mask_share: the largest mask, as a share in (0, 1] of the image. Like those below, for a search with a
            budget.
        success: how well, in (0, 1], a trigger must work to be made smaller.
        starts: random starts of an exploration.
        explore: steps of an exploration.
        batch_size: images of a step of the exploration, for each start; the refinement takes five times as many.

    Raises:
        ConfigError: a setting is out of range.
    """

    beta: float | None = None
    steps: int = 60
    lr: float = 0.3
    max_mask_share: float = 0.125
    success: float = 0.95
    starts: int = 16
    explore: int = 40
    batch_size: int = 2

    def __post_init__(self) -> None:
        if min(self.steps, self.starts, self.explore, self.batch_size) < 1:
            raise ConfigError(f"steps, starts, explore and batch_size must be 1 or more; got {self}")
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
            objective: what to minimise.
            images: float (N, C, H, W) in [0, 1].
            generator: on the CPU, for the random starts and the choice of images.
            progress: called as ``progress("trigger inversion", step, steps)``.

        Raises:
            ModelError: the loss became NaN or infinite.
        """
        if self.beta is not None:
            return self._papers(self.beta, objective, images, generator, progress)
        largest = self.max_mask_share * images[0, 0].numel()
        patches = _Patches.random(self.starts, images, generator, _FAINT)
        curves = self._explore(patches, largest, objective, images, generator, progress)
        masks, patterns = patches.masks(largest * _SHRINK).detach(), patches.patterns().detach()
        works = _works(objective, masks, patterns, images)
        best = max(range(self.starts), key=lambda start: (float(works[start]), -float(curves[-1, start])))
        found = self._refine(
            patches.only(best), largest, curves[:, best].tolist(), objective, images, generator, progress
        )
        progress("trigger inversion", self.explore + self.steps, self.explore + self.steps)
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
            loss = objective.loss(
                _stamp(mask, pattern, images), torch.arange(len(images), device=images.device)
            )
            losses += patches.descend(loss + beta * mask.sum(), self.lr).tolist()
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
    ) -> Tensor:
        """The losses, (steps, S)."""
        losses = []
        for step in range(1, self.explore + 1):
            budget = largest * _SHRINK ** ((step - 1) / self.explore)
            losses.append(self._step(patches, budget, self.batch_size, objective.coarse, images, generator))
            progress("trigger inversion", step, self.explore + self.steps)
        return torch.stack(losses)

    def _refine(
        self,
        patch: _Patches,
        largest: float,
        explored: list[float],
        objective: Objective,
        images: Tensor,
        generator: torch.Generator,
        progress: Progress,
    ) -> Recovered:
        """Make one patch as small as it may be, or larger until it works."""
        losses = list(explored)
        budget, best, stop_reason = largest * _SHRINK, _Best(patch.masks()[0], patch.patterns()[0]), ""
        for step in range(self.steps + 1):
            if step % _STRIDE == 0 or step == self.steps:
                mask, pattern = patch.masks(budget).detach(), patch.patterns().detach()
                works = float(_works(objective, mask, pattern, images))
                working = works >= self.success - 1e-6  # in single precision: 19 of 20 are 0.95
                if working:
                    mask = self._smallest(mask, pattern, objective, images)
                before = best
                if working or step:  # what the exploration left may fool both models
                    best = best.or_better(works, working, mask[0], pattern[0])
                if best is before and best.working:
                    stop_reason = "no smaller trigger worked"
                    break
                if not best.working and budget == largest:
                    stop_reason = f"no patch within {self.max_mask_share:.1%} of the image worked"
                    break
                if best.working:
                    budget = 0.8 * best.size
                elif step:
                    budget = min(largest, 2 * budget) if works >= _PROMISING else largest
            if step < self.steps:
                count = 5 * self.batch_size
                losses += self._step(patch, budget, count, objective.loss, images, generator).tolist()
                progress("trigger inversion", self.explore + step + 1, self.explore + self.steps)
        return Recovered(
            trigger=Trigger(best.mask, best.pattern),
            loss_curve=tuple(losses),
            stop_reason=stop_reason or f"all {self.steps} steps were used",
            converged=bool(stop_reason) or best.working or _fall(losses) <= _FALLING,
        )

    def _step(
        self,
        patches: _Patches,
        budget: float,
        count: int,
        loss: Callable[[Tensor, Tensor], Tensor],
        images: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """One step on so many random images; the losses, (S,)."""
        chosen = torch.randperm(len(images), generator=generator)[:count].to(images.device)
        stamped = _stamp(patches.masks(budget), patches.patterns(), images[chosen])
        return patches.descend(loss(stamped, chosen), self.lr)

    def _smallest(self, mask: Tensor, pattern: Tensor, objective: Objective, images: Tensor) -> Tensor:
        """The mask without the pixels of the smallest part, as many as it works without, to an eighth of them."""
        order = mask.flatten().argsort(descending=True)
        fails, holds, smallest = 0, int((mask > 0).sum()), mask
        while holds - fails > max(1, holds // 8):
            count = (fails + holds) // 2
            tried = (
                torch.zeros_like(mask).flatten().index_copy_(0, order[:count], mask.flatten()[order[:count]])
            )
            tried = tried.view_as(mask)
            if float(_works(objective, tried, pattern, images)) >= self.success - 1e-6:
                holds, smallest = count, tried
            else:
                fails = count
        return smallest


class _Patches:
    """The masks and patterns of S patches, learned side by side."""

    def __init__(self, masks: Tensor, patterns: Tensor) -> None:
        self._masks, self._patterns = masks.requires_grad_(), patterns.requires_grad_()
        self._moments = [(torch.zeros_like(each), torch.zeros_like(each)) for each in (masks, patterns)]
        self._steps = 0

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
        """Take a step of Adam against the gradient of each patch's own loss, (S,), which is returned.

        Written out, since making an optimizer of ``torch.optim`` imports torch's compiler: seconds, once a process.

        Raises:
            ModelError: a loss is NaN or infinite.
        """
        if not bool(losses.isfinite().all()):
            raise ModelError("the search's loss became NaN or infinite: does the model answer finite logits?")
        learned = (self._masks, self._patterns)
        gradients = torch.autograd.grad(losses.sum(), learned)
        self._steps += 1
        first_bias, second_bias = (1 - beta**self._steps for beta in _BETAS)
        with torch.no_grad():
            for values, gradient, (first, second) in zip(learned, gradients, self._moments, strict=True):
                first.lerp_(gradient, 1 - _BETAS[0])
                second.lerp_(gradient.square(), 1 - _BETAS[1])
                values.addcdiv_(first, (second / second_bias).sqrt_().add_(_EPSILON), value=-lr / first_bias)
        return losses.detach()


def _stamp(masks: Tensor, patterns: Tensor, images: Tensor) -> Tensor:
    """Every image with every patch, (S, N, C, H, W)."""
    masks, patterns = masks[:, None], patterns[:, None]
    return masks * patterns + (1 - masks) * images


@torch.no_grad()
def _works(objective: Objective, masks: Tensor, patterns: Tensor, images: Tensor) -> Tensor:
    """How well each patch works on all images, (S,); one at a time, to spare memory."""
    pairs = zip(masks, patterns, strict=True)
    return torch.cat([objective.works(_stamp(mask[None], pattern[None], images)) for mask, pattern in pairs])


@dataclass(frozen=True, eq=False)
class _Best:
    """The best patch so far: the smallest of those that work, else the one that works on most images."""

    mask: Tensor
    pattern: Tensor
    working: bool = False
    works: float = -1.0

    @property
    def size(self) -> float:
        """The mask's sum, in pixels."""
        return float(self.mask.sum())

    def or_better(self, works: float, working: bool, mask: Tensor, pattern: Tensor) -> _Best:
        better = working and float(mask.sum()) < self.size if self.working else working or works > self.works
        return _Best(mask.clone(), pattern.clone(), working, works) if better else self


def _fall(losses: list[float]) -> float:
    """How far the mean loss fell from the third quarter of the steps to the last; infinite if there are too few."""
    window = len(losses) // 4
    if window == 0:
        return float("inf")
    return fmean(losses[-2 * window : -window]) - fmean(losses[-window:])
