"""The search that inversion methods share: a mask and a pattern, learned by gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Protocol

import torch
from torch import Tensor

from fedmend.detection.search.patches import Patches, stamped
from fedmend.errors import ConfigError
from fedmend.progress import Progress, silent
from fedmend.triggers import Patch


class Objective(Protocol):
    """What a method wants of stamped images.

    ``stamped`` are images with S patches, K for each, (S, K, C, H, W), and ``chosen`` which of the search's images
    these are, (S, K).
    """

    def loss(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        """The method's loss, less the mask's L1 term, (S,); differentiable in the stamped images."""
        ...

    def coarse(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        """A cheaper loss, (S,), that is low for patches worth a closer look; asked once a step of the exploration."""
        ...

    def works(self, stamped: Tensor, chosen: Tensor, at_least: float) -> Tensor:
        """How well each patch works, (S,) in [0, 1], on the same images for all, ``chosen`` (K,).

        Roughly, where it is below ``at_least``.
        """
        ...


_FAINT = -2.5
_LATEST = 6
_SHRINK = 0.25
_VARIANT = 0.5
_FALLING = 0.1
_AT_ONCE = 128
_PROMISING = 0.3


@dataclass(frozen=True, eq=False)
class Recovered:
    """What a search ended with.

    Attributes:
        trigger: the recovered mask and pattern, on the images' device.
        loss_curve: the loss of each step; of a search with a budget, of the start that became the trigger, first the
            exploration's coarse losses and then the refinement's, each on the step's few images, so that it jumps where
            the loss becomes another one.
        stop_reason: why the search ended, in words.
        converged: False if the loss was still falling when the steps were used up.
        variants: of a search with a budget, the patch of every finalist that worked on half of the images or more, as
            it was when the exploration ended; the refined trigger comes from one of them, if there are any.
    """

    trigger: Patch
    loss_curve: tuple[float, ...]
    stop_reason: str
    converged: bool
    variants: tuple[Patch, ...] = ()


@dataclass(frozen=True)
class Search:
    """Gradient descent on a mask and a pattern, from random noise (contrastive paper, Algorithm 1).

    With ``beta`` given, this is the paper's search: all steps from one start on all images, and the last mask and
    pattern are the result. Without it, the mask's L1 norm has a budget instead of a price, so that there is no weight
    to tune: a mask whose sum is above the budget is scaled down to it.

    - **Explore**: ``starts`` random starts run side by side, each step on a few random images of each start's own, by
      an objective that may be cheaper than the full one. The budget shrinks from ``max_mask_share`` of the image's
      pixels to a quarter of that, so that a patch which needs many pixels loses to one that needs few. The starts
      whose latest losses are lowest are the finalists, which are judged on more images. It may end ``early``: every
      few steps the first of them is judged, and if it works within the quarter already, the rest is left out.
    - **Refine**: the finalist that works best learns on, by the full objective, and is judged every few steps. When it
      works on ``success`` of the images, the pixels with the smallest part in the mask are left out, as many as it
      can do without. If what is left is ``small``, that is the result; else it learns on within four fifths of it, and
      the smallest patch that works is. Until one works the budget doubles, or where next to nothing works goes to the
      largest at once; there it learns on as long as it works on three in ten and on ever more.

    Attributes:
        beta: weight of the mask's L1 norm, per pixel; None for a budget.
        steps: gradient steps: of the paper's search; else of the refinement, at most.
        lr: Adam's learning rate (ours: the paper names none).
        max_mask_share: the largest mask, as a share in (0, 1] of the image. Like those below, for a search with a
            budget.
        success: how well, in (0, 1], a trigger must work to be made smaller.
        small: a share of the image, in [0, 1]: the search ends with a trigger that works and has no larger a mask.
        starts: random starts of an exploration.
        explore: steps of an exploration, at most.
        early: whether an exploration may end early.
        batch_size: images of a step of the exploration, for each start.
        finalists: how many starts are judged; None for all of them.
        judged: on how many images, at most, patches are judged: the same random ones all along.
        refine_batch_size: images of a step of the refinement.
        stride: steps from one judgement to the next.

    Raises:
        ConfigError: a setting is out of range.
    """

    beta: float | None = None
    steps: int = 54
    lr: float = 0.5
    max_mask_share: float = 0.125
    success: float = 0.95
    small: float = 0.0625
    starts: int = 20
    explore: int = 25
    early: bool = True
    batch_size: int = 1
    finalists: int | None = 6
    judged: int = 48
    refine_batch_size: int = 8
    stride: int = 9

    def __post_init__(self) -> None:
        counts = (self.steps, self.starts, self.explore, self.batch_size, self.refine_batch_size, self.stride)
        if min(*counts, self.judged, 1 if self.finalists is None else self.finalists) < 1:
            raise ConfigError(
                f"steps, stride, explore, starts, finalists, judged and batch sizes must be 1 or more; got {self}"
            )
        if not 0 < self.lr < float("inf"):
            raise ConfigError(f"lr must be above 0 and finite; got {self.lr}")
        if self.beta is not None and not 0 <= self.beta < float("inf"):
            raise ConfigError(f"beta must be 0 or more, or None for a budget; got {self.beta}")
        if not 0 < self.success <= 1 or not 0 < self.max_mask_share <= 1:
            raise ConfigError(f"success and max_mask_share must be above 0 and at most 1; got {self}")
        if not 0 <= self.small <= 1:
            raise ConfigError(f"small must be from 0 to 1; got {self.small}")

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
        patches = Patches.random(self.starts, images, generator, _FAINT)
        judge = _Judge.on(self.judged, objective, images, generator)
        curves = self._explore(patches, largest, judge, images, generator, progress)
        masks, patterns = patches(largest * _SHRINK)
        order = _promising(curves)[: self.finalists]
        works = judge(masks[order], patterns[order])
        best = int(order[works.argmax()])
        found = self._refine(
            patches.only(best), largest, curves[:, best].tolist(), judge, images, generator, progress
        )
        progress("trigger inversion", self.explore + self.steps, self.explore + self.steps)
        halves = order[works >= _VARIANT].sort().values.tolist()
        return replace(found, variants=tuple(Patch(masks[start], patterns[start]) for start in halves))

    @property
    def _success(self) -> float:
        return self.success - 1e-6  # in single precision: 19 of 20 are 0.95

    def _papers(
        self,
        beta: float,
        objective: Objective,
        images: Tensor,
        generator: torch.Generator,
        progress: Progress,
    ) -> Recovered:
        patches = Patches.random(1, images, generator, offset=0.0)
        everything = torch.arange(len(images), device=images.device)[None]
        losses: list[float] = []
        for step in range(1, self.steps + 1):
            mask, pattern = patches()
            loss = patches.descend(
                images[None], partial(objective.loss, chosen=everything), self.lr, price=beta
            )
            losses += loss.tolist()
            progress("trigger inversion", step, self.steps)
        return Recovered(
            trigger=Patch(mask[0], pattern[0]),
            loss_curve=tuple(losses),
            stop_reason=f"all {self.steps} steps were used",
            converged=_fall(losses) <= _FALLING,
        )

    def _explore(
        self,
        patches: Patches,
        largest: float,
        judge: _Judge,
        images: Tensor,
        generator: torch.Generator,
        progress: Progress,
    ) -> Tensor:
        """The losses, (steps, S), of the steps that there were."""
        losses: list[Tensor] = []
        for step in range(self.explore):
            if self.early and step and step % self.stride == 0:
                best = patches.only(int(_promising(torch.stack(losses))[0]))
                if float(judge(*best(largest * _SHRINK), self._success)) >= self._success:
                    break
            budget = largest * _SHRINK ** (step / self.explore)
            loss = judge.objective.coarse
            losses.append(self._step(patches, budget, self.batch_size, loss, images, generator))
            progress("trigger inversion", step + 1, self.explore + self.steps)
        return torch.stack(losses)

    def _refine(
        self,
        patch: Patches,
        largest: float,
        explored: list[float],
        judge: _Judge,
        images: Tensor,
        generator: torch.Generator,
        progress: Progress,
    ) -> Recovered:
        """Make one patch as small as it may be, or larger until it works."""
        losses = list(explored)
        (mask, pattern), budget, stop_reason = patch(), largest * _SHRINK, ""
        best = _Best(mask[0], pattern[0])
        for step in range(self.steps + 1):
            if step % self.stride == 0 or step == self.steps:
                mask, pattern = patch(budget)
                works = float(judge(mask, pattern))
                working, promising = works >= self._success, works >= _PROMISING
                if working:
                    mask = self._smallest(mask, pattern, judge)
                before = best
                if working or step:  # what the exploration left may fool both models
                    best = best.or_better(works, working, mask[0], pattern[0])
                improved = best is not before
                if best.working and not improved:
                    stop_reason = "no smaller trigger worked"
                    break
                if best.working and best.size <= self.small * images[0, 0].numel():
                    stop_reason = f"a trigger within {self.small:.1%} of the image worked"
                    break
                hopeless = not best.working and not (promising and improved)

                if hopeless and budget == largest and step % self.stride == 0:
                    stop_reason = f"no patch within {self.max_mask_share:.1%} of the image worked"
                    break
                if best.working:
                    budget = 0.8 * best.size
                elif promising:
                    budget = min(largest, 2 * budget)
                else:
                    budget = largest
            if step < self.steps:
                count = self.refine_batch_size
                losses += self._step(patch, budget, count, judge.objective.loss, images, generator).tolist()
                progress("trigger inversion", self.explore + step + 1, self.explore + self.steps)
        return Recovered(
            trigger=Patch(best.mask, best.pattern),
            loss_curve=tuple(losses),
            stop_reason=stop_reason or f"all {self.steps} steps were used",
            converged=bool(stop_reason) or best.working or _fall(losses) <= _FALLING,
        )

    def _step(
        self,
        patches: Patches,
        budget: float,
        count: int,
        loss: Callable[..., Tensor],
        images: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """One step on so many random images for each patch; the losses, (S,)."""
        order = torch.rand(len(patches), len(images), generator=generator).argsort(1)
        chosen = order[:, :count].to(images.device)
        return patches.descend(images[chosen], partial(loss, chosen=chosen), self.lr, budget)

    def _smallest(self, mask: Tensor, pattern: Tensor, judge: _Judge) -> Tensor:
        """The mask without the pixels of the smallest part, as many as it works without, to an eighth of them."""
        order = mask.flatten().argsort(descending=True)
        fails, holds, smallest = 0, int((mask > 0).sum()), mask
        while holds - fails > max(1, holds // 8):
            count = max(fails + 1, round((max(fails, 1) * holds) ** 0.5))
            tried = (
                torch.zeros_like(mask).flatten().index_copy_(0, order[:count], mask.flatten()[order[:count]])
            )
            tried = tried.view_as(mask)
            if float(judge(tried, pattern, self._success)) >= self._success:
                holds, smallest = count, tried
            else:
                fails = count
        return smallest


@dataclass(frozen=True, eq=False)
class _Judge:
    """Says how well patches work, on the same images ``chosen`` all along."""

    objective: Objective
    images: Tensor
    chosen: Tensor

    @staticmethod
    def on(count: int, objective: Objective, images: Tensor, generator: torch.Generator) -> _Judge:
        """On so many random images, or on all where there are no more."""
        chosen = torch.arange(len(images))
        if len(images) > count:
            chosen = torch.randperm(len(images), generator=generator)[:count].sort().values
        chosen = chosen.to(images.device)
        return _Judge(objective, images[chosen], chosen)

    @torch.no_grad()
    def __call__(self, masks: Tensor, patterns: Tensor, at_least: float = _PROMISING) -> Tensor:
        """How well each patch works, (S,); a few patches at a time, to spare memory."""
        several = max(1, _AT_ONCE // len(self.images))
        pairs = zip(masks.split(several), patterns.split(several), strict=True)
        return torch.cat(
            [
                self.objective.works(stamped(mask, pattern, self.images), self.chosen, at_least)
                for mask, pattern in pairs
            ]
        )


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


def _promising(losses: Tensor) -> Tensor:
    """The starts in order of their latest losses, of (steps, S), the lowest first."""
    return losses[-_LATEST:].mean(0).argsort()


def _fall(losses: list[float]) -> float:
    """How far the mean loss fell from the third quarter of the steps to the last; infinite if there are too few."""
    window = len(losses) // 4
    if window == 0:
        return float("inf")
    return fmean(losses[-2 * window : -window]) - fmean(losses[-window:])
