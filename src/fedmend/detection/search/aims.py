"""What a candidate trigger is searched for: which images should go to which class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, order=True)
class Aim:
    """Images of the class ``source``, or of every other class if it is None, should go to ``target``."""

    target: int
    source: int | None = None

    def admits(self, classes: Tensor) -> Tensor:
        """Which images the aim is about, bool (N,), from their classes, int64 (N,)."""
        return classes != self.target if self.source is None else classes == self.source

    @property
    def sources(self) -> tuple[int, ...]:
        """The source classes as a finding names them: empty for all others."""
        return () if self.source is None else (self.source,)


def all_to_one(classes: int) -> list[Aim]:
    """One aim per class."""
    return [Aim(target) for target in range(classes)]


def pairs(sources: Tensor, targets: list[int]) -> list[Aim]:
    """Every pair of a source class, int64 (S,), and one of the targets."""
    return [
        Aim(target, source) for target in targets for source in sources.unique().tolist() if source != target
    ]


def admitted(aims: list[Aim], classes: Tensor, already: Tensor) -> Tensor:
    """Which images each aim is about, bool (S, N), without those that are at the target already.

    Args:
        aims: S of them, perhaps none.
        classes: of the images, int64 (N,).
        already: where the model in which the trigger should work sends the unstamped images, int64 (N,).
    """
    found = torch.zeros(len(aims), len(classes), dtype=torch.bool, device=classes.device)
    for row, aim in zip(found, aims, strict=True):
        row.copy_(aim.admits(classes) & (already != aim.target))
    return found
