"""A small patch for every class, all searched side by side by the suspect alone (Neural Cleanse, Section IV)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedmend.checked_settings import Count, Positive, settings
from fedmend.detection.lone_suspect import LoneSuspect
from fedmend.detection.search.chunking import in_chunks
from fedmend.detection.search.inverted import Inverted
from fedmend.detection.search.patches import Patches, Regulariser
from fedmend.detection.search.penalty_schedule import Penalties, Schedule
from fedmend.progress import Progress, silent
from fedmend.triggers import Patch

_STAGE = "trigger inversion"

Regularisers = Callable[[Tensor, Tensor], Regulariser]
"""From a step's classes, (S,), and the indices of their images, (S, K), to what is added to the patches' losses."""


@settings
class ClassInversion:
    """Adam on cross-entropy plus the mask's weighted L1 norm, from one random start a class.

    All classes are rows of one batch. Each has its own weight, best norm and end; a finished class leaves the batch.
    The result of a class is its smallest mask after a round of success.

    Deviations: a round, after which the weights are adjusted, has a fixed number of minibatches, one by default, where
    the paper's is an epoch; images of the class itself are left out, since they need no trigger.

    Attributes:
        rounds: most rounds.
        batches: gradient steps a round.
        batch_size: images per class and gradient step.
        lr: Adam's learning rate. Masks and patterns are sigmoids, whose input moves twice as far as that of the paper's
            tanh, so 0.2 is its 0.1.
        schedule: of the weight of the mask's norm.
    """

    rounds: Count = 400
    batches: Count = 1
    batch_size: Count = 12
    lr: Positive = 0.2
    schedule: Schedule = Schedule()

    def __call__(
        self,
        suspect: LoneSuspect,
        rng: torch.Generator,
        progress: Progress = silent,
        regularisers: Regularisers | None = None,
    ) -> Inverted[Patch]:
        """Search a patch for every class.

        Args:
            suspect: with images of two classes or more.
            rng: on the CPU, for the random starts and the order of the images.
            progress: called as ``progress("trigger inversion", round, rounds)``.
            regularisers: further terms of the loss.

        Raises:
            ModelError: a loss became NaN or infinite.
        """
        patches = Patches.random(suspect.classes, suspect.images, rng, offset=0.0)
        device = suspect.images.device
        penalties = Penalties(suspect.classes, self.schedule, device)
        left = torch.arange(suspect.classes, device=device)
        masks, patterns = (each.clone() for each in patches())
        reached = torch.zeros(suspect.classes, dtype=torch.bool, device=device)
        ended = f"all {self.rounds} rounds were used"
        for done in range(1, self.rounds + 1):
            order = torch.randperm(len(suspect.images), generator=rng).to(device)
            chosen = images_of_others(order, suspect.truth, left, self.batches * self.batch_size)
            rates = []
            for indices in chosen.split(self.batch_size, 1):
                now = patches()  # the round's last step measures these
                rates.append(self._step(suspect, patches, (left, indices), penalties.weights, regularisers))
            better = penalties.judge(torch.stack(rates).mean(0), now[0].sum((1, 2, 3)))
            kept = better | ~reached[left]
            masks[left[kept]], patterns[left[kept]] = now[0][kept], now[1][kept]
            reached[left[better]] = True
            progress(_STAGE, done, self.rounds)
            going = ~penalties.finished
            if not bool(going.any()):
                progress(_STAGE, self.rounds, self.rounds)
                ended = f"no class's patch gained any more after {done} of {self.rounds} rounds"
                break
            if not bool(going.all()):
                left = left[going]
                patches.keep(going)
                penalties.keep(going)
        triggers = tuple(Patch(mask, pattern) for mask, pattern in zip(masks, patterns, strict=True))
        return Inverted(triggers, masks.sum((1, 2, 3)), reached, ended)

    def _step(
        self,
        suspect: LoneSuspect,
        patches: Patches,
        batch: tuple[Tensor, Tensor],
        weights: Tensor,
        regularisers: Regularisers | None,
    ) -> Tensor:
        """One gradient step of all patches; returns the fraction of the images on which each worked before it, (S,)."""
        classes, indices = batch
        wanted = classes.repeat_interleave(indices.shape[1])
        works = torch.zeros_like(wanted, dtype=torch.bool)

        def of_images(stamped: Tensor, rows: slice) -> Tensor:
            logits = suspect.logits(stamped)
            works[rows] = logits.detach().argmax(1) == wanted[rows]
            return cross_entropy(logits, wanted[rows], reduction="none")

        def loss(stamped: Tensor) -> Tensor:
            return in_chunks(of_images, stamped.flatten(0, 1), suspect.at_once).view(indices.shape).mean(1)

        patches.descend(
            suspect.images[indices],
            loss,
            self.lr,
            penalty=weights.view(-1, 1, 1, 1),
            regulariser=None if regularisers is None else regularisers(classes, indices),
        )
        return works.view(indices.shape).float().mean(1)


def images_of_others(order: Tensor, truth: Tensor, classes: Tensor, count: int) -> Tensor:
    """Indices of ``count`` images for each class that aren't of it, int64 (S, count), some repeated if there are fewer.

    Args:
        order: of all images, int64 (N,); it is followed for every class.
        truth: the images' classes, int64 (N,).
        classes: int64 (S,).
        count: at least 1.
    """
    own = truth[order] == classes[:, None]
    others = (~own).sum(1, keepdim=True)
    turns = torch.arange(count, device=order.device) % others
    return order[own.int().argsort(dim=1, stable=True).gather(1, turns)]
