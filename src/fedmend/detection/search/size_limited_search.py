"""fedmend's own search: restarts in parallel under a limit on the mask's size, then refinement of the best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from fedmend.checked_settings import Count, Flag, Fraction, Positive, PositiveFraction, settings
from fedmend.detection.search.judging import PROMISING, Best, Judge, Objective, smallest_mask
from fedmend.detection.search.patches import Patches
from fedmend.detection.search.recovery import STAGE, Recovered, has_settled
from fedmend.progress import Progress, silent
from fedmend.triggers import Patch

_FAINT = -2.5
_LATEST = 6
_SHRINK = 0.25
_VARIANT = 0.5


@settings
class SizeLimitedSearch:
    """Gradient descent on masks and patterns with limited size, so that no penalty must be tuned (ours).

    A mask whose sum exceeds the limit is scaled down to it.

    - **Explore**: ``restarts`` random patches are optimised in parallel by the objective's coarse loss, each step on a
      few random images per restart. The limit shrinks from ``max_mask_fraction`` of the image to a quarter of that, so
      that patches which need few pixels win. The restarts with the lowest recent losses are the finalists, which are
      judged on more images. With ``early``, exploration ends once the leading restart succeeds at the quarter.
    - **Refine**: the best finalist is optimised by the full loss and judged every ``stride`` steps. Once it reaches
      ``success``, the pixels with the smallest mask values are dropped, as many as possible without losing success. If
      the remaining patch is ``small``, it is the result; otherwise the limit becomes four fifths of its size, and the
      smallest patch that succeeds wins. Until a patch succeeds, the size limit doubles; if success is below 30 %, it
      jumps to the maximum. There the search continues only while success is at least 30 % and rising.

    Attributes:
        steps: refinement steps, at most.
        lr: Adam's learning rate.
        max_mask_fraction: the largest mask, as a fraction of the image.
        success: the success that a patch must reach before it is made smaller.
        small: the search ends with a patch that succeeds and covers at most this fraction of the image.
        restarts: random patches to explore from.
        explore: exploration steps, at most.
        early: whether exploration may end early.
        batch_size: images per restart and exploration step.
        finalists: number of restarts that are judged; None for all.
        judged: most images to judge on; the same random ones throughout.
        refine_batch_size: images per refinement step.
        stride: steps between two judgements.

    Raises:
        ConfigError: a setting is out of range.
    """

    steps: Count = 54
    lr: Positive = 0.5
    max_mask_fraction: PositiveFraction = 0.125
    success: PositiveFraction = 0.95
    small: Fraction = 0.0625
    restarts: Count = 20
    explore: Count = 25
    early: Flag = True
    batch_size: Count = 1
    finalists: Count | None = 6
    judged: Count = 48
    refine_batch_size: Count = 8
    stride: Count = 9

    def __call__(
        self,
        objective: Objective,
        images: Tensor,
        rng: torch.Generator,
        progress: Progress = silent,
    ) -> Recovered:
        """Search for a small patch with a low loss and high success.

        Args:
            objective: the losses and the success of stamped images.
            images: float (N, C, H, W) in [0, 1].
            rng: on the CPU, for the restarts and the choice of images.
            progress: called as ``progress("trigger inversion", step, steps)``.

        Raises:
            ModelError: the loss became NaN or infinite.
        """
        patches = Patches.random(self.restarts, images, rng, _FAINT)
        task = _Task(self, Judge.on(self.judged, objective, images, rng), images, rng, progress)
        curves = task.explore(patches)
        masks, patterns = patches(task.largest * _SHRINK)
        order = _promising(curves)[: self.finalists]
        success = task.judge(masks[order], patterns[order])
        best = int(order[success.argmax()])
        found = task.refine(patches.only([best]), curves[:, best].tolist())
        progress(STAGE, self.explore + self.steps, self.explore + self.steps)
        variants = order[success >= _VARIANT].sort().values.tolist()
        return replace(found, variants=tuple(Patch(masks[each], patterns[each]) for each in variants))


@dataclass(frozen=True, eq=False)
class _Task:
    """A search's settings with the data it works on."""

    settings: SizeLimitedSearch
    judge: Judge
    images: Tensor
    rng: torch.Generator
    progress: Progress

    @property
    def largest(self) -> float:
        """The largest mask, in pixels."""
        return self.settings.max_mask_fraction * self.images[0, 0].numel()

    @property
    def success(self) -> float:
        return self.settings.success - 1e-6  # so that 19 of 20 reach 0.95 in single precision

    def explore(self, patches: Patches) -> Tensor:
        """Optimise all restarts; returns their losses, (steps, S)."""
        settings, losses = self.settings, list[Tensor]()
        for step in range(settings.explore):
            if settings.early and step and step % settings.stride == 0:
                leader = patches.only([int(_promising(torch.stack(losses))[0])])
                if float(self.judge(*leader(self.largest * _SHRINK), self.success)) >= self.success:
                    break
            limit = self.largest * _SHRINK ** (step / settings.explore)
            losses.append(self._step(patches, limit, settings.batch_size, self.judge.objective.coarse))
            self.progress(STAGE, step + 1, settings.explore + settings.steps)
        return torch.stack(losses)

    def refine(self, patch: Patches, explored: list[float]) -> Recovered:
        """Shrink one patch as far as it succeeds, or grow it until it succeeds."""
        settings, losses = self.settings, list(explored)
        (mask, pattern), limit, stop_reason = patch(), self.largest * _SHRINK, ""
        best = Best(mask[0], pattern[0])
        for step in range(settings.steps + 1):
            if step % settings.stride == 0 or step == settings.steps:
                mask, pattern = patch(limit)
                success = float(self.judge(mask, pattern))
                working, promising = success >= self.success, success >= PROMISING
                if working:
                    mask = smallest_mask(mask, pattern, self.judge, self.success)
                before = best
                if working or step:  # exploration's patch may fool both models
                    best = best.or_better(success, working, mask[0], pattern[0])
                improved = best is not before
                stop_reason = self._done(best, improved)
                hopeless = not best.working and not (promising and improved)
                if hopeless and limit == self.largest and step % settings.stride == 0:
                    stop_reason = f"no patch within {settings.max_mask_fraction:.1%} of the image worked"
                if stop_reason:
                    break
                limit = self._next_limit(limit, best, promising)
            if step < settings.steps:
                loss = self.judge.objective.loss
                losses += self._step(patch, limit, settings.refine_batch_size, loss).tolist()
                self.progress(STAGE, settings.explore + step + 1, settings.explore + settings.steps)
        return Recovered(
            trigger=Patch(best.mask, best.pattern),
            loss_curve=tuple(losses),
            stop_reason=stop_reason or f"all {settings.steps} steps were used",
            converged=bool(stop_reason) or best.working or has_settled(losses),
        )

    def _done(self, best: Best, improved: bool) -> str:
        """Why refinement ends with a patch that works; empty if it continues."""
        if best.working and not improved:
            return "no smaller trigger worked"
        if best.working and best.size <= self.settings.small * self.images[0, 0].numel():
            return f"a trigger within {self.settings.small:.1%} of the image worked"
        return ""

    def _next_limit(self, limit: float, best: Best, promising: bool) -> float:
        if best.working:
            return 0.8 * best.size
        return min(self.largest, 2 * limit) if promising else self.largest

    def _step(self, patches: Patches, limit: float, count: int, loss: Callable[..., Tensor]) -> Tensor:
        """One step on ``count`` random images per patch; returns the losses, (S,)."""
        order = torch.rand(len(patches), len(self.images), generator=self.rng).argsort(1)
        chosen = order[:, :count].to(self.images.device)
        return patches.descend(self.images[chosen], partial(loss, chosen=chosen), self.settings.lr, limit)


def _promising(losses: Tensor) -> Tensor:
    """The restarts ordered by their recent mean losses, lowest first; ``losses`` is (steps, S)."""
    return losses[-_LATEST:].mean(0).argsort()
