"""The search that inversion methods share: a mask and a pattern, learned by gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from fedmend.errors import ConfigError, ModelError
from fedmend.progress import Progress, silent
from fedmend.triggers import Trigger


@dataclass(frozen=True, eq=False)
class Judged:
    """What an objective says of stamped images.

    Attributes:
        loss: the method's loss, less the mask's L1 term; a scalar.
        guide: a scalar in [-1, 0], a smooth form of ``-works``, which helps a guided start on its way.
        works: how well the trigger works, in [0, 1].
    """

    loss: Tensor
    guide: Tensor
    works: float


Objective = Callable[[Tensor], Judged]
"""From stamped images (N, C, H, W) to what is said of them; differentiable."""

_FALLING = 0.02
_STILL = 0.002
_GONE = 0.1
_FAINT = -2.0
_PROMISING = 0.3


@dataclass(frozen=True, eq=False)
class Recovered:
    """What a search ended with.

    Attributes:
        trigger: the recovered mask and pattern, on the images' device.
        loss_curve: the loss of each step.
        stop_reason: why the search ended, in words.
        converged: False if the loss was still falling when the steps were used up.
    """

    trigger: Trigger
    loss_curve: tuple[float, ...]
    stop_reason: str
    converged: bool


@dataclass(frozen=True)
class Search:
    """Gradient descent on a mask and a pattern, from random noise (contrastive paper, Algorithm 1).

    With ``beta`` given, this is the paper's search: all steps from one start, and the last mask and pattern are the
    result. Without it, the weight of the mask's L1 norm is steered, in the spirit of Neural Cleanse:

    - In the warm-up it is 0 at first, and then rises to a limit, ``1 / (max_mask_share * H * W)``: a mask of that
      share of the image must lower the contrastive loss, which can fall by 2, by 1 to pay. (Without a limit, a mask
      of most of an image makes any two models differ, clean ones as well.) The start is faint, so that the images are
      still themselves.
    - Then it grows while the trigger works or is larger than that share, so that the smallest one is found; where a
      smaller mask works on three in ten images or more, it falls until the trigger works on ``success`` of them.
    - A search that finds nothing is begun again from another start, and this one is guided: in the warm-up, the loss
      also has the objective's guide, with a weight that falls from 1 to 0. What is found must hold without it.

    Attributes:
        beta: weight of the mask's L1 norm, per pixel; None to steer it.
        steps: gradient steps of a start, at most.
        lr: Adam's learning rate (ours: the paper names none).
        max_mask_share: see above, in (0, 1]; a larger mask never counts as working. Like those below, for a steered
            search.
        success: how well, in (0, 1], a trigger must work to be made smaller.
        warm_up: steps before the L1 weight is at its limit; it is 0 in the first two fifths of them.
        patience: steps without news after which the search stops.
        starts: random starts at most; every second one is guided.

    Raises:
        ConfigError: a setting is out of range.
    """

    beta: float | None = None
    steps: int = 300
    lr: float = 0.1
    max_mask_share: float = 0.125
    success: float = 0.95
    warm_up: int = 100
    patience: int = 50
    starts: int = 4

    def __post_init__(self) -> None:
        if min(self.steps, self.patience, self.starts) < 1 or self.warm_up < 0:
            raise ConfigError(
                f"steps, patience and starts must be 1 or more and warm_up 0 or more; got {self}"
            )
        if not 0 < self.lr < float("inf"):
            raise ConfigError(f"lr must be above 0 and finite; got {self.lr}")
        if self.beta is not None and not 0 <= self.beta < float("inf"):
            raise ConfigError(f"beta must be 0 or more, or None to steer it; got {self.beta}")
        if not 0 < self.success <= 1 or not 0 < self.max_mask_share <= 1:
            raise ConfigError(f"success and max_mask_share must be above 0 and at most 1; got {self}")

    def __call__(
        self,
        objective: Objective,
        images: Tensor,
        generator: torch.Generator,
        progress: Progress = silent,
        allowed: Tensor | None = None,
    ) -> Recovered:
        """Minimise the objective plus the L1 term.

        Args:
            objective: see :data:`Objective`; differentiable in the stamped images.
            images: float (N, C, H, W) in [0, 1].
            generator: on the CPU, for the random starts.
            progress: called as ``progress("trigger inversion", step, steps)`` for each start.
            allowed: float (1, H, W), 1 where the mask may be and 0 where not; everywhere by default.

        Raises:
            ModelError: the loss became NaN or infinite.
        """
        allowed = torch.ones_like(images[0, :1]) if allowed is None else allowed.to(images)
        if self.beta is not None:
            return self._start(objective, images, generator, progress, allowed, guided=False)[1]
        best: tuple[_Best, Recovered] | None = None
        for start in range(self.starts):
            found = self._start(objective, images, generator, progress, allowed, guided=start % 2 == 1)
            if best is None or found[0].rank > best[0].rank:
                best = found
            if found[0].working:
                break
        assert best is not None
        return best[1]

    def _start(
        self,
        objective: Objective,
        images: Tensor,
        generator: torch.Generator,
        progress: Progress,
        allowed: Tensor,
        *,
        guided: bool,
    ) -> tuple[_Best, Recovered]:
        channels, height, width = images.shape[1:]
        offset = _FAINT if self.beta is None else 0.0
        mask_raw = (torch.randn(1, height, width, generator=generator) + offset).to(images).requires_grad_()
        pattern_raw = torch.randn(channels, height, width, generator=generator).to(images).requires_grad_()
        optimizer = torch.optim.Adam([mask_raw, pattern_raw], self.lr, betas=(0.5, 0.9))
        limit = 1 / (self.max_mask_share * height * width)
        beta = limit if self.beta is None else self.beta
        best = _Best(mask_raw.detach().sigmoid() * allowed, pattern_raw.detach().sigmoid())
        losses: list[float] = []
        stop_reason = ""
        for step in range(1, self.steps + 1):
            mask, pattern = mask_raw.sigmoid() * allowed, pattern_raw.sigmoid()
            judged = objective(mask * pattern + (1 - mask) * images)
            size = mask.sum()
            risen = 1.0 if self.beta is not None else self._risen(step)
            total = judged.loss + beta * risen * size
            if guided and risen < 1:
                total = total + (1 - risen) * judged.guide
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            losses.append(total.item())
            if not abs(losses[-1]) < float("inf"):
                raise ModelError(
                    "the search's loss became NaN or infinite: does the model answer finite logits?"
                )
            progress("trigger inversion", step, self.steps)
            works, share = judged.works, size.item() / (height * width)
            if self.beta is not None or risen < 1:
                best = _Best(mask.detach(), pattern.detach(), step=step)
                continue
            small = share <= self.max_mask_share
            best = best.or_better(works, small and works >= self.success, share, mask, pattern, step)
            beta = self._steer(beta, limit, works, small)
            if works < _PROMISING and float(mask.detach().max()) < _GONE:
                best = _Best(mask.detach(), pattern.detach(), step=step)
                stop_reason = "the mask vanished: no patch was worth its size"
            elif best.working and works >= _PROMISING and step - best.step >= self.patience:
                stop_reason = f"no smaller trigger worked for {self.patience} steps"
            elif not best.working and self._still(losses):
                stop_reason = "the loss stopped changing"
            if stop_reason:
                progress("trigger inversion", self.steps, self.steps)
                break
        return best, Recovered(
            trigger=Trigger(best.mask, best.pattern),
            loss_curve=tuple(losses),
            stop_reason=stop_reason or f"all {self.steps} steps were used",
            converged=bool(stop_reason) or best.working or _fall(losses, self.patience) <= _FALLING,
        )

    def _risen(self, step: int) -> float:
        """How far, from 0 to 1, the L1 weight has risen to its limit."""
        wait = 0.4 * self.warm_up
        return 1.0 if step > self.warm_up else max(0.0, (step - wait) / max(1.0, self.warm_up - wait + 1))

    def _still(self, losses: list[float]) -> bool:
        waited = len(losses) >= self.warm_up + 2 * self.patience
        return waited and abs(_fall(losses, self.patience)) < _STILL

    def _steer(self, beta: float, limit: float, works: float, small: bool) -> float:
        if works >= self.success or (works >= _PROMISING and not small):
            return beta * 1.05
        if small and works >= _PROMISING:
            return max(limit / 20, beta * 0.97)
        return min(limit, beta * 1.05) if beta < limit else max(limit, beta / 1.1)


@dataclass(frozen=True, eq=False)
class _Best:
    """The best trigger so far: the smallest of those that work, else the one that works on most images."""

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


def _fall(losses: list[float], window: int) -> float:
    """How far the mean loss fell from the window before the last to the last; infinite if there are too few."""
    if len(losses) < 2 * window:
        return float("inf")
    return fmean(losses[-2 * window : -window]) - fmean(losses[-window:])
