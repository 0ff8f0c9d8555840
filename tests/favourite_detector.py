"""A user's own detector, as simple as can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from fedmend.detection import Case, Finding, Need, Target
from fedmend.progress import Progress


@dataclass(frozen=True)
class Favourite:
    """Does noise look like one class more often than it should?"""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.IMAGES})

    limit: float = 0.6
    images: int = 200

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        shape = (self.images, *case.pixels.shape[1:])
        bright = torch.rand(shape, generator=rng).to(case.pixels)
        with torch.no_grad():
            counts = torch.bincount(case.suspect(bright).argmax(1), minlength=case.suspect_logits.shape[1])
        progress("noise", 1, 1)
        fraction, target = float(counts.max()) / self.images, int(counts.argmax())
        return Finding(
            detector="favourite",
            verdict="backdoored" if fraction > self.limit else "clean",
            reason=f"{fraction:.0%} of noise is taken for {case.class_name(target)}.",
            suspicious=fraction,
            limit=self.limit,
            targets=(Target(target, fraction),),
        )
