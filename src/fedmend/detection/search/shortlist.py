"""Which of many classes are worth a search of their own, from a few candidates that aim at none (ours)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fedmend.detection.search.aims import Aim
from fedmend.detection.search.chunking import in_chunks
from fedmend.detection.search.direction import Direction
from fedmend.detection.search.families import Family

_CANDIDATES, _STEPS, _LATEST, _TINY = 6, 8, 3, 1e-6
PASSES_TO_SHORTLIST = 4 * _CANDIDATES * _STEPS


def shortlisted(
    direction: Direction,
    family: Family,
    aims: Sequence[Aim],
    most: int,
    rng: torch.Generator,
) -> list[Aim]:
    """At most ``most`` of the aims, those of the classes that a trigger can favour in ``fires`` more than in ``stays``.

    A backdoor is a direction of the pixels in which the two models' logits part fast. A few candidates therefore
    maximise the length of the vector of differences, ``fires`` minus ``stays``, of all classes' logits, less what it is
    on the clean image. A class's score is the most by which any candidate raises its difference. That costs
    8 steps of 6 images, however many classes there are.

    Args:
        direction: the models and the images.
        family: of the candidates.
        aims: any number.
        most: how many to return.
        rng: on the CPU.

    Raises:
        ModelError: the loss became NaN or infinite.
    """
    images, candidates = direction.images, family.candidates(_CANDIDATES, direction.images, rng)
    limit = family.explored[0] * family.unit(images)
    raised = list[Tensor]()
    for _ in range(_STEPS):
        chosen = torch.randint(len(images), (_CANDIDATES,), generator=rng).to(images.device)
        clean = images[chosen]
        before = _apart(direction.clean_logits[:, chosen])
        after = torch.empty_like(before)

        def of_images(stamped: Tensor, rows: slice, before: Tensor = before, after: Tensor = after) -> Tensor:
            both = torch.stack([direction.fires(stamped), direction.stays(stamped)])
            difference = _apart(both) - before[rows]
            after[rows] = difference.detach()
            return -(difference.square().sum(1) + _TINY).log()

        def loss(stamped: Tensor, of_images: Callable[[Tensor, slice], Tensor] = of_images) -> Tensor:
            return in_chunks(of_images, stamped.flatten(0, 1), direction.at_once)

        candidates.descend(clean[:, None], loss, family.lr, limit)
        raised.append(after)
    scores = torch.stack(raised[-_LATEST:]).mean(0).amax(0).tolist()
    return sorted(aims, key=lambda aim: -scores[aim.target])[:most]


def _apart(logits: Tensor) -> Tensor:
    """From logits of ``fires`` and ``stays``, (2, N, classes), their differences about a mean of 0, (N, classes)."""
    difference = logits[0] - logits[1]
    return difference - difference.mean(1, keepdim=True)
