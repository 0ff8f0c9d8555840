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

from fedmend.detection import Case, Differential, Finding, contrastive_loss, differential_scan, search_plan
from fedmend.detection import search as searches
from fedmend.model_cost import multiply_adds
from fedmend.progress import Progress, silent

AimedSearch, Task = searches.aimed_search.AimedSearch, searches.aimed_search.Task
compare = differential_scan.compare
Explored, Stage = searches.aimed_search.Explored, searches.aimed_search.Stage
Aim, admitted = searches.aims.Aim, searches.aims.admitted

ALL = 10_000
SSIM_WEIGHT = 0.1
"""Between those of the contrastive paper for MNIST and for CIFAR-10."""


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
    """Refinement for what works in the suspect alone with the cross-entropy of the target plus something else."""

    part: ClassVar[Callable[[Tensor, Tensor, Tensor], Tensor]]
    """In the place of :func:`~fedmend.detection.search.aimed_search.parted`."""

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        with patch.object(searches.aimed_search, "parted", type(self).part):
            return super().__call__(case, rng, progress)


def kept(stays: Tensor, clean: Tensor, _fires: Tensor) -> Tensor:
    """Half the cross-entropy of the unstamped prediction in the other model; the contrastive loss has weight 2."""
    return -log_softmax(stays, -1).gather(1, clean.argmax(1)[:, None])[:, 0] / 2


class WithoutContrast(OtherLoss):
    """Cross-entropies alone: of the target in one model, and of the unstamped prediction in the other."""

    part = staticmethod(kept)


class WithSsim(Differential):
    """The SSIM term of Eq. 4 added to the refinement for what works in the suspect alone."""

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        class Altered(Task):
            def descend(self, explored: Explored, limit: float, count: int, stage: Stage) -> Tensor:
                if stage == "alone":
                    explored = replace(explored, candidates=Dissimilar(explored.candidates))
                return super().descend(explored, limit, count, stage)

        with patch.object(differential_scan, "Task", Altered):
            return super().__call__(case, rng, progress)


class Dissimilar:
    """Candidates that descend by another loss."""

    def __init__(self, candidates: Any) -> None:
        self._candidates = candidates

    def descend(self, images: Tensor, loss: Callable[[Tensor], Tensor], lr: float, limit: float) -> Tensor:
        def altered(stamped: Tensor) -> Tensor:
            return loss(stamped) + dissimilarity(stamped, images)

        return self._candidates.descend(images, altered, lr, limit)


class FewPasses(Differential):
    """The search cut to a number of passes, as it is for a large model."""

    passes: ClassVar[int]

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        work = type(self).passes * multiply_adds(case.suspect, case.pixels[0])
        with patch.object(search_plan, "WORK", work):
            return super().__call__(case, rng, progress)


class AsResNet50(FewPasses):
    """As many as with a ResNet-50 at 224x224."""

    passes = 3913


class AsViTB16(FewPasses):
    """As many as with a ViT-B/16 at 224x224."""

    passes = 950


def dissimilarity(stamped: Tensor, images: Tensor) -> Tensor:
    """The SSIM term of Eq. 4."""
    order = torch.arange(images.shape[0] * images.shape[1], device=images.device).view(images.shape[:2])
    return -SSIM_WEIGHT * contrastive_loss.SsimTo(images.flatten(0, 1))(stamped, order)


default = Differential  # to be measured beside the others, on the same machine
without_swap = WithoutSwap
without_aim = partial(Differential, search=LateAim())
without_shortlist = partial(Differential, search=AimedSearch(many=ALL, finalists=ALL))
without_contrast = WithoutContrast
with_ssim = WithSsim
as_resnet50 = AsResNet50
as_vit_b16 = AsViTB16
