"""The search for triggers with an aim: many candidates at a large size, fewer as it shrinks (ours)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from fedmend.checked_settings import Count, settings
from fedmend.detection.search.aims import Aim, admitted
from fedmend.detection.search.direction import Direction
from fedmend.detection.search.families import Candidates, Family
from fedmend.triggers import Addition, Patch

_LATEST = 6
_NOTHING = 0.05


@dataclass(frozen=True, eq=False)
class Strength:
    """How well the best candidate with one aim works as its size shrinks.

    Attributes:
        aim: what it was searched for.
        rates: at each of the family's sizes, until the aim was dropped, the fraction of the judged images on which it
            works: ``fires`` sends them to the target, and ``stays`` doesn't (in a search for what works in both
            models: does so, too).
        triggers: the candidate at each of these sizes, on the images' device.
        judged: indices of the images that the rates are of, int64.
    """

    aim: Aim
    rates: tuple[float, ...]
    triggers: tuple[Patch | Addition, ...]
    judged: Tensor

    @property
    def total(self) -> float:
        """The sum of the rates: the number of sizes, or about halvings, that the trigger survives."""
        return sum(self.rates)


@settings
class AimedSearch:
    """Gradient descent on candidates, one or more an aim, each with the cross-entropy of its own target.

    - **Explore**: all aims by ``fires`` alone, while the size limit falls from the family's largest to its middle one.
      After a few steps, and again later, the aims with the highest recent losses are dropped.
    - **Refine**: the finalists at each of the sizes in turn, largest first. The loss is the cross-entropy of the target
      in ``fires`` plus that of the kept prediction in ``stays``. After each size the candidates are judged.

    Attributes:
        restarts: candidates per aim at the start.
        explore: exploration steps.
        many, few: aims left after a sixth of the exploration steps, and after half of them.
        finalists: aims to refine at the largest size; after each size the weaker half is dropped, down to ``least``.
        refine: steps per size.
        batch_size: images per candidate and refinement step.
        judged: most images per aim to judge on, the same throughout.

    Raises:
        ConfigError: a setting is out of range.
    """

    restarts: Count = 1
    explore: Count = 20
    many: Count = 96
    few: Count = 24
    finalists: Count = 12
    least: Count = 4
    refine: Count = 8
    batch_size: Count = 4
    judged: Count = 48

    def __call__(
        self,
        direction: Direction,
        family: Family,
        aims: Sequence[Aim],
        rng: torch.Generator,
        step: Callable[[], None] = lambda: None,
        *,
        together: bool = False,
    ) -> list[Strength]:
        """Search; returns the finalists, the strongest first.

        Args:
            direction: the models and the images.
            family: of the candidates.
            aims: those without images are left out.
            rng: on the CPU.
            step: called after each gradient step.
            together: look for what works in both models.

        Raises:
            ModelError: the loss became NaN or infinite.
        """
        task = _Task(self, direction, family, rng, step, together)
        chosen, candidates = task.explore(list(aims))
        return sorted(task.refine(chosen, candidates), key=lambda each: -each.total) if chosen else []


@dataclass(frozen=True, eq=False)
class _Task:
    settings: AimedSearch
    direction: Direction
    family: Family
    rng: torch.Generator
    step: Callable[[], None]
    together: bool

    def explore(self, aims: list[Aim]) -> tuple[list[Aim], Candidates]:
        settings, limits = self.settings, self.family.limits(self.direction.images)
        aims = [aim for aim, images in zip(aims, self._admitted(aims), strict=True) if bool(images.any())]
        aims = [aim for aim in aims for _ in range(settings.restarts)]
        if not aims:
            return [], self.family.candidates(0, self.direction.images, self.rng)
        candidates = self.family.candidates(len(aims), self.direction.images, self.rng)
        smallest = limits[len(limits) // 2]
        losses: list[Tensor] = []
        drop = {-(-settings.explore // 6): settings.many, settings.explore // 2: settings.few}
        for number in range(1, settings.explore + 1):
            limit = limits[0] * (smallest / limits[0]) ** (number / settings.explore)
            losses.append(self._descend(candidates, aims, limit, self.family.batch_size, both=False))
            if number in drop and len(aims) > drop[number]:
                left = _lowest(losses, aims, drop[number])
                aims, candidates = [aims[each] for each in left], candidates.only(left)
                losses = [each[left] for each in losses]
        left = _lowest(losses, aims, settings.finalists)
        return [aims[each] for each in left], candidates.only(left)

    def refine(self, aims: list[Aim], candidates: Candidates) -> list[Strength]:
        settings, limits = self.settings, self.family.limits(self.direction.images)
        found = [Strength(aim, (), (), images) for aim, images in zip(aims, self._draw(aims), strict=True)]
        left = list(range(len(aims)))
        for before, limit in pairwise((limits[0], *limits)):
            aims = [found[each].aim for each in left]
            for number in range(1, settings.refine + 1):
                between = before * (limit / before) ** (number / settings.refine)
                self._descend(candidates, aims, between, settings.batch_size, both=True)
            for each, trigger in zip(left, candidates.triggers(limit), strict=True):
                found[each] = self._judged(found[each], trigger)
            if max(found[each].rates[-1] for each in left) < _NOTHING:
                break
            order = sorted(range(len(left)), key=lambda place: -found[left[place]].total)
            kept = order[: max(settings.least, len(left) // 2)]
            left, candidates = [left[place] for place in kept], candidates.only(kept)
        return found

    def _descend(self, candidates: Candidates, aims: list[Aim], limit: float, count: int, *, both: bool) -> Tensor:
        """One step on ``count`` random images per candidate; returns the losses, (S,)."""
        direction = self.direction
        weights = torch.rand(len(aims), len(direction.images), generator=self.rng)
        weights = weights.to(direction.images.device) * self._admitted(aims)
        least = max(1, min(count, int((weights > 0).sum(1).min())))
        chosen = weights.topk(least, 1).indices
        targets = torch.tensor([aim.target for aim in aims], device=chosen.device)[:, None].expand_as(chosen)

        def loss(stamped: Tensor) -> Tensor:
            images = stamped.flatten(0, 1)
            total = _cross_entropy(direction.fires(images), targets)
            if both:
                wanted = targets if self.together else direction.kept[chosen]
                total = total + _cross_entropy(direction.stays(images), wanted)
            return total.mean(1)

        losses = candidates.descend(direction.images[chosen], loss, self.family.lr, limit)
        self.step()
        return losses

    @torch.no_grad()
    def _judged(self, strength: Strength, trigger: Patch | Addition) -> Strength:
        """With the rate of a trigger of the next size."""
        direction, target = self.direction, strength.aim.target
        stamped = trigger.apply(direction.images[strength.judged])
        hits = direction.fires(stamped).argmax(1) == target
        too = direction.stays(stamped).argmax(1) == target
        rate = float((hits & (too == self.together)).float().mean())
        return replace(
            strength, rates=(*strength.rates, rate), triggers=(*strength.triggers, trigger)
        )

    def _draw(self, aims: list[Aim]) -> list[Tensor]:
        """For each aim, random images of its own to judge on."""
        drawn = []
        for images in self._admitted(aims):
            own = images.nonzero().flatten()
            order = torch.randperm(len(own), generator=self.rng)[: self.settings.judged].to(own.device)
            drawn.append(own[order])
        return drawn

    def _admitted(self, aims: list[Aim]) -> Tensor:
        return admitted(aims, self.direction.kept, self.direction.before)


def _cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Of each image, (S, K), from logits (S * K, classes)."""
    chosen = log_softmax(logits, -1).gather(1, classes.reshape(-1, 1))
    return -chosen.view(classes.shape)


def _lowest(losses: list[Tensor], aims: list[Aim], most: int) -> list[int]:
    """The candidates with the lowest recent losses, at most ``most`` aims, one candidate an aim."""
    order = torch.stack(losses[-_LATEST:]).mean(0).argsort().tolist()
    left: dict[Aim, int] = {}
    for each in order:
        left.setdefault(aims[each], each)
    return list(left.values())[:most]
