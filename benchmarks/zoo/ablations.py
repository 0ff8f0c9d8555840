"""The default detector without one of its parts, or with another loss: what is each worth?

    python benchmarks/zoo/evaluate.py --split test --most 60 --method ablations:without_swap

Each name is a factory, as ``--method`` takes it. The detector is the product's, with one piece of it replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from fedmend.detection import Case, Differential, Finding, contrastive_loss, differential_scan
from fedmend.detection import search as searches
from fedmend.progress import Progress, silent

AimedSearch, Task = searches.aimed_search.AimedSearch, searches.aimed_search.Task
compare = differential_scan.compare
Explored, Stage = searches.aimed_search.Explored, searches.aimed_search.Stage
Aim, admitted = searches.aims.Aim, searches.aims.admitted

ALL = 10_000
SSIM_WEIGHT = 0.1
"""Between those of the contrastive paper for MNIST and for CIFAR-10."""

Term = Callable[[Any, Tensor, Tensor], Tensor]
"""From a direction, stamped images and the same unstamped, (S, K, C, H, W), to a loss, (S,)."""


class WithoutSwap(Differential):
    """The lead over the other classes alone."""

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        def unswapped(family: str, strengths: Any, swapped: Any, most_leaders: int) -> Any:
            return compare(family, strengths, None, most_leaders)

        with patch.object(differential_scan, "compare", unswapped):
            return super().__call__(case, rng, progress)


class LateAim(AimedSearch):
    """Exploration from random restarts without an aim, each of which is then aimed at the class it moves images to."""

    def explore(self, task: Task, aims: Sequence[Aim], *, together: bool = False) -> Explored:
        if together:
            return super().explore(task, aims, together=True)
        admit = admitted(list(aims), task.direction.kept, task.direction.before)
        own = [aim for aim, images in zip(aims, admit, strict=True) if bool(images.any())]
        candidates = task.family.candidates(len(own), task.direction.images, task.rng)
        if not own:
            return Explored((), candidates)
        largest, smallest = (size * task.family.unit(task.direction.images) for size in task.family.explored)
        late = self.explore_steps // 2
        for number in range(1, self.explore_steps + 1):
            limit = largest * (smallest / largest) ** (number / self.explore_steps)
            if number <= late:
                moved = self._unaimed(task, own, candidates, limit)
                continue
            if number == late + 1:
                own, candidates = _aimed(own, candidates, moved)
            losses = task.descend(Explored(tuple(own), candidates), limit, task.family.batch_size, "explore")
        left = losses.argsort().tolist()[: self.finalists]
        return Explored(tuple(own[each] for each in left), candidates.only(left))

    def _unaimed(self, task: Task, aims: list[Aim], candidates: Any, limit: float) -> Tensor:
        """A step away from the predictions, whatever to; returns how much each class gained, (S, classes)."""
        direction, gained = task.direction, []
        admit = admitted(aims, direction.kept, direction.before)
        count = max(1, min(task.family.batch_size, int(admit.sum(1).min())))
        drawn = torch.rand(admit.shape, generator=task.rng).to(admit.device) * admit
        chosen = drawn.topk(count, 1).indices
        kept = direction.before[chosen].reshape(-1, 1)

        def loss(stamped: Tensor) -> Tensor:
            logits = direction.fires(stamped.flatten(0, 1))
            after = logits.detach().softmax(-1).unflatten(0, chosen.shape)
            left = -after.new_ones(chosen.shape)
            gained.append(after.mean(1).scatter_add(1, direction.before[chosen], left))
            return log_softmax(logits, -1).gather(1, kept).view(chosen.shape).mean(1)

        candidates.descend(direction.images[chosen], loss, task.family.lr, limit)
        task.step()
        (moved,) = gained
        return moved


def _aimed(aims: list[Aim], candidates: Any, moved: Tensor) -> tuple[list[Aim], Any]:
    """Each candidate with the class that gained most as its target; of those with one aim, the strongest."""
    gain, targets = moved.max(1)
    best: dict[Aim, int] = {}
    for each in gain.argsort(descending=True).tolist():
        aim = replace(aims[each], target=int(targets[each]))
        if aim.source != aim.target:
            best.setdefault(aim, each)
    if not best:
        return aims, candidates
    return list(best), candidates.only(list(best.values()))


class OtherLoss(Differential):
    """Refinement for what works in the suspect alone with a term added, or instead of the cross-entropies."""

    term: ClassVar[Term]
    instead: ClassVar[bool] = False

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        detector = self

        class Altered(Task):
            def descend(self, explored: Explored, limit: float, count: int, stage: Stage) -> Tensor:
                if stage == "alone":
                    term = partial(detector.term, self.direction)
                    explored = replace(
                        explored, candidates=WithTerm(explored.candidates, term, detector.instead)
                    )
                return super().descend(explored, limit, count, stage)

        with patch.object(differential_scan, "Task", Altered):
            return super().__call__(case, rng, progress)


class WithTerm:
    """Candidates that descend by another loss."""

    def __init__(self, candidates: Any, term: Callable[[Tensor, Tensor], Tensor], instead: bool) -> None:
        self._candidates, self._term, self._instead = candidates, term, instead

    def descend(self, images: Tensor, loss: Callable[[Tensor], Tensor], lr: float, limit: float) -> Tensor:
        def altered(stamped: Tensor) -> Tensor:
            own = 0 if self._instead else loss(stamped)
            return own + self._term(stamped, images)

        return self._candidates.descend(images, altered, lr, limit)


def contrast(direction: Any, stamped: Tensor, images: Tensor) -> Tensor:
    """Eq. 1 on the logits."""

    def logits(model: Callable[[Tensor], Tensor], of: Tensor) -> Tensor:
        return model(of.flatten(0, 1)).unflatten(0, of.shape[:2])

    with torch.no_grad():
        clean = logits(direction.fires, images)
    return contrastive_loss.contrast(
        logits(direction.stays, stamped), clean, logits(direction.fires, stamped)
    )


def dissimilarity(direction: Any, stamped: Tensor, images: Tensor) -> Tensor:
    """The SSIM term of Eq. 4."""
    order = torch.arange(images.shape[0] * images.shape[1], device=images.device).view(images.shape[:2])
    return -SSIM_WEIGHT * contrastive_loss.SsimTo(images.flatten(0, 1))(stamped, order)


class WithContrast(OtherLoss):
    """Eq. 1 added."""

    term = staticmethod(contrast)


class ContrastAlone(WithContrast):
    """Eq. 1 alone; the exploration keeps its aims."""

    instead = True


class WithSsim(OtherLoss):
    """The SSIM term added."""

    term = staticmethod(dissimilarity)


default = Differential  # to be measured beside the others, on the same machine
without_swap = WithoutSwap
without_aim = partial(Differential, search=LateAim())
without_shortlist = partial(Differential, search=AimedSearch(many=ALL, finalists=ALL))
with_contrast = WithContrast
contrast_alone = ContrastAlone
with_ssim = WithSsim
