"""Families of triggers that a search can recover, each with its parameters, sizes and step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fedmend.detection.search.additions import Additions
from fedmend.detection.search.patches import Patches
from fedmend.triggers import Addition, Patch

_FAINT = -2.5


class Candidates(Protocol):
    """S triggers of one family, optimised in parallel."""

    def __len__(self) -> int: ...

    def only(self, chosen: Sequence[int]) -> Candidates:
        """Some of them, with a new optimizer."""
        ...

    def triggers(self, limit: float) -> Sequence[Patch | Addition]:
        """The triggers within a limit on their size."""
        ...

    def descend(self, images: Tensor, loss: Callable[[Tensor], Tensor], lr: float, limit: float) -> Tensor:
        """One step on each candidate's own loss, see :meth:`Patches.descend`."""
        ...


@dataclass(frozen=True)
class Family:
    """A family of triggers.

    Attributes:
        name: for reports.
        explored: the limits from which and to which the size falls during exploration, as in ``sizes``.
        sizes: the limits at which candidates are judged, falling, each half or so of the one before: of a patch, the
            fraction of the image; of an addition, the root mean square of the change.
        lr: of each step.
        batch_size: images per candidate and exploration step (one while there are more aims than ``many``).
        additive: whether its triggers are additive changes; otherwise they are patches.
    """

    name: str
    explored: tuple[float, float]
    sizes: tuple[float, ...]
    lr: float
    batch_size: int
    additive: bool = False

    def candidates(self, count: int, images: Tensor, rng: torch.Generator) -> Candidates:
        """Draw ``count`` candidates for ``images``, float (N, C, H, W)."""
        if self.additive:
            return Additions.random(count, images, rng, self.sizes[0])
        return Patches.random(count, images, rng, _FAINT)

    def unit(self, images: Tensor) -> int:
        """What a size is multiplied by to give a candidate's limit: of a patch, the number of pixels."""
        return 1 if self.additive else images[0, 0].numel()


PATCHES = Family("patch", (0.3, 0.04), (0.3, 0.16, 0.08, 0.04, 0.02, 0.01), lr=0.5, batch_size=1)
SMALL_PATCHES = Family("patch", (0.16, 0.04), (0.16, 0.08, 0.04, 0.02, 0.01), lr=0.5, batch_size=1)
"""For triggers that work in both models, and for two classes: larger ones work in honest models, too."""
PAIR_PATCHES = Family("patch", (0.16, 0.04), (0.04, 0.02, 0.01, 0.005), lr=0.5, batch_size=1)
ADDITIONS = Family(
    "addition", (0.1, 0.04), (0.1, 0.06, 0.04, 0.025, 0.015), lr=0.25, batch_size=2, additive=True
)

_WORKS, _SMALL = 0.9, 0.02


def works_small(rates: Sequence[float]) -> bool:
    """Whether a patch of at most 2 % of the image works on 90 % of the images, from its rates at the sizes above."""
    return any(rate >= _WORKS and size <= _SMALL for size, rate in zip(PATCHES.sizes, rates, strict=False))
