"""The search for triggers with an aim: many candidates at a large size, fewer as it shrinks (ours)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from fedmend.checked_settings import Count, settings
from fedmend.detection.contrastive_loss import contrast
from fedmend.detection.search.aims import Aim, admitted
from fedmend.detection.search.chunking import in_chunks
from fedmend.detection.search.direction import Direction
from fedmend.detection.search.families import Candidates, Family
from fedmend.detection.search.shortlist import shortlisted
from fedmend.inference import batch_size_for
from fedmend.triggers import Addition, Patch

Stage = Literal["explore", "alone", "together"]
"""Which loss: the target's cross-entropy in ``fires``; with the contrastive loss; or with the target's in ``stays``."""

_CONTRAST = 2.0
"""Weight of the contrastive loss, which lies in [-2, 2]."""
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


@dataclass(frozen=True, eq=False)
class Explored:
    """Candidates, one for each of the aims."""

    aims: tuple[Aim, ...]
    candidates: Candidates


@settings
class AimedSearch:
    """Gradient descent on candidates, one or more an aim, each with the cross-entropy of its own target.

    - **Explore**: all aims by ``fires`` alone, while the size limit falls from the family's largest to its middle one.
      After a few steps, and again later, aims are dropped. Those are kept whose cross-entropy in ``fires`` is lowest
      compared with that in ``stays`` on the same stamped images: a class that both models take for near is no backdoor.
    - **Refine**: the finalists at each of the sizes in turn, largest first. The loss is the cross-entropy of the target
      in ``fires`` plus twice the contrastive loss (contrastive paper, Eq. 1; here of logits, see :func:`parted`):
      ``stays`` should do as ``fires`` does on the clean image, and ``fires`` something else. After each size the
      candidates are judged.

    Attributes:
        restarts: candidates per aim at the start.
        explore_steps: exploration steps.
        many: aims left after a tenth of the exploration steps.
        finalists: aims left after half of them, to refine at the largest size; after each size the weaker half is
            dropped, down to ``least``.
        refine_steps: refinement steps per size.
        batch_size: images per candidate and refinement step.
        judged: most images per aim to judge on, the same throughout.
        shortlist: aims left before the exploration, by :func:`~fedmend.detection.search.shortlist.shortlisted`; None
            to explore all.

    Raises:
        ConfigError: a setting is out of range.
    """

    restarts: Count = 1
    explore_steps: Count = 20
    many: Count = 64
    finalists: Count = 12
    least: Count = 4
    refine_steps: Count = 8
    batch_size: Count = 4
    judged: Count = 48
    shortlist: Count | None = None

    def explore(self, task: Task, aims: Sequence[Aim], *, together: bool = False) -> Explored:
        """Optimise a candidate for each aim; returns the finalists.

        Args:
            task: what to work on.
            aims: those without images are left out.
            together: look for what works in both models; candidates are optimised and ranked by both losses.

        Raises:
            ModelError: the loss became NaN or infinite.
        """
        admit = admitted(list(aims), task.direction.kept, task.direction.before)
        own = [aim for aim, images in zip(aims, admit, strict=True) if bool(images.any())]
        if self.shortlist is not None and len(own) > self.shortlist:
            own = shortlisted(task.direction, task.family, own, self.shortlist, task.rng)
        own = [aim for aim in own for _ in range(self.restarts)]
        candidates = task.family.candidates(len(own), task.direction.images, task.rng)
        scores = list[Tensor]()
        (largest, smallest), unit = task.family.explored, task.family.unit(task.direction.images)
        stage: Stage = "together" if together else "explore"
        drop = {-(-self.explore_steps // 10): self.many, self.explore_steps // 2: self.finalists}
        for number in range(1, self.explore_steps + 1 if own else 0):
            limit = unit * largest * (smallest / largest) ** (number / self.explore_steps)
            count = task.family.batch_size if len(own) <= self.many else 1
            scores.append(task.descend(Explored(tuple(own), candidates), limit, count, stage))
            if number in drop and len(own) > drop[number]:
                left = _lowest(scores, own, drop[number])
                own, candidates = [own[each] for each in left], candidates.only(left)
                scores = [each[left] for each in scores]
        left = _lowest(scores, own, self.finalists) if own else []
        return Explored(tuple(own[each] for each in left), candidates.only(left))

    def refine(self, task: Task, explored: Explored, *, together: bool = False) -> list[Strength]:
        """Optimise and judge the finalists at each size; returns their strengths, the strongest first.

        Args:
            task: what to work on.
            explored: the finalists.
            together: look for what works in both models, rather than in ``fires`` alone.

        Raises:
            ModelError: the loss became NaN or infinite.
        """
        found = [
            Strength(aim, (), (), images)
            for aim, images in zip(explored.aims, task.draw(explored.aims, self.judged), strict=True)
        ]
        left, candidates = list(range(len(found))), explored.candidates
        reached = task.family.explored[1] * task.family.unit(task.direction.images)
        for before, limit in pairwise((max(reached, task.limits[0]), *task.limits)):
            if not left:
                break
            now = Explored(tuple(found[each].aim for each in left), candidates)
            for number in range(1, self.refine_steps + 1):
                between = before * (limit / before) ** (number / self.refine_steps)
                task.descend(now, between, self.batch_size, "together" if together else "alone")
            for each, trigger in zip(left, candidates.triggers(limit), strict=True):
                found[each] = task.judged(found[each], trigger, together)
            recent = [found[each].rates[-2:] for each in left]
            if len(recent[0]) == 2 and max(map(max, recent)) < _NOTHING:
                break
            order = sorted(range(len(left)), key=lambda place: -found[left[place]].total)
            kept = order[: max(self.least, len(left) // 2)]
            left, candidates = [left[place] for place in kept], candidates.only(kept)
        return sorted(found, key=lambda each: -each.total)


@dataclass(frozen=True, eq=False)
class Task:
    """What a search works on.

    Attributes:
        direction: the models and the images.
        family: of the candidates.
        rng: on the CPU.
        step: called after each gradient step.
    """

    direction: Direction
    family: Family
    rng: torch.Generator
    step: Callable[[], None] = lambda: None

    @property
    def limits(self) -> tuple[float, ...]:
        """The family's sizes, as candidates take them."""
        unit = self.family.unit(self.direction.images)
        return tuple(size * unit for size in self.family.sizes)

    def descend(self, explored: Explored, limit: float, count: int, stage: Stage) -> Tensor:
        """One step on ``count`` random images per candidate, by the loss of ``stage``.

        Returns the losses, (S,); for "explore", minus the target's cross-entropy in ``stays``.
        """
        direction = self.direction
        admit = admitted(list(explored.aims), direction.kept, direction.before)
        weights = torch.rand(admit.shape, generator=self.rng).to(admit.device) * admit
        least = max(1, min(count, int(admit.sum(1).min())))
        chosen = weights.topk(least, 1).indices
        targets = torch.tensor([aim.target for aim in explored.aims], device=chosen.device)
        targets = targets[:, None].expand_as(chosen).flatten()
        clean = direction.clean_logits[0][chosen.flatten()]

        def of_images(images: Tensor, rows: slice) -> Tensor:
            fires = direction.fires(images)
            total = _cross_entropy(fires, targets[rows])
            if stage == "explore":
                with torch.no_grad():
                    rivals = _cross_entropy(direction.stays(images), targets[rows])
                return total - rivals
            stays = direction.stays(images)
            if stage == "together":
                return total + _cross_entropy(stays, targets[rows])
            return total + _CONTRAST * parted(stays, clean[rows], fires)

        def loss(stamped: Tensor) -> Tensor:
            losses = in_chunks(of_images, stamped.flatten(0, 1), direction.at_once)
            return losses.view(chosen.shape).mean(1)

        losses = explored.candidates.descend(direction.images[chosen], loss, self.family.lr, limit)
        self.step()
        return losses

    @torch.no_grad()
    def judged(self, strength: Strength, trigger: Patch | Addition, together: bool) -> Strength:
        """The strength with the rate of a trigger of the next size.

        Images are judged in two batches of random sizes, so that a model can't recognise the batch.
        """
        direction, target = self.direction, strength.aim.target
        stamped = trigger.apply(direction.images[strength.judged])
        cut = int(torch.randint(len(stamped), (), generator=self.rng))
        most = batch_size_for(stamped, most=len(stamped))
        parts = [part for half in (stamped[:cut], stamped[cut:]) for part in half.split(most) if len(part)]
        hits = torch.cat([direction.fires_exactly(part).argmax(1) for part in parts]) == target
        too = torch.cat([direction.stays_exactly(part).argmax(1) for part in parts]) == target
        rate = float((hits & (too == together)).float().mean())
        return replace(strength, rates=(*strength.rates, rate), triggers=(*strength.triggers, trigger))

    def draw(self, aims: Sequence[Aim], most: int) -> list[Tensor]:
        """For each aim, at most ``most`` random images of its own."""
        drawn = []
        for images in admitted(list(aims), self.direction.kept, self.direction.before):
            own = images.nonzero().flatten()
            drawn.append(own[torch.randperm(len(own), generator=self.rng)[:most].to(own.device)])
        return drawn


def parted(stays: Tensor, clean: Tensor, fires: Tensor) -> Tensor:
    """The contrastive loss (Eq. 1) of each image, (N,), of logits about a mean of 0: a constant on all says nothing.

    Of two logits about a mean of 0 the cosine is 1 or -1 and has no gradient. With two classes, half the cross-entropy
    in ``stays`` of the unstamped prediction takes its place.

    Args:
        stays: of the stamped images, (N, classes).
        clean: what ``fires`` says of the unstamped images, (N, classes).
        fires: of the stamped images, (N, classes).
    """
    if clean.shape[1] == 2:
        return _cross_entropy(stays, clean.argmax(1)) / _CONTRAST
    return contrast(*((each - each.mean(-1, keepdim=True))[:, None] for each in (stays, clean, fires)))


def _cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Of each image, (N,), from logits (N, classes) and classes (N,)."""
    return -log_softmax(logits, -1).gather(1, classes[:, None])[:, 0]


def _lowest(scores: list[Tensor], aims: list[Aim], most: int) -> list[int]:
    """The candidates with the lowest recent scores, at most ``most`` aims, one candidate an aim."""
    recent = scores[1:][-_LATEST:] or scores  # at the first step candidates are still random
    order = torch.stack(recent).mean(0).argsort().tolist()
    left: dict[Aim, int] = {}
    for each in order:
        left.setdefault(aims[each], each)
    return list(left.values())[:most]
