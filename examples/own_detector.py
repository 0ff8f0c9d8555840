"""A detector that fedmend doesn't know; ``--method own_detector:make`` names it on the command line.

It needs no reference: it shows the suspect noise and counts its predictions. A small patch that works on every image
often works in noise, too, so that a backdoored model may take most of it for the attacker's class. It is an example,
not a good detector: some clean models favour a class as well.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from fedmend.detection import Case, Finding, Measure, Need, Target
from fedmend.progress import Progress
from fedmend.settings import Count, Fraction, settings


@settings
class FavouriteClass:
    """Backdoored if more than ``limit`` of ``images`` images of noise are taken for one class."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.IMAGES})  # for their shape

    limit: Fraction = 0.6
    images: Count = 500

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        noise = torch.rand(self.images, *case.pixels.shape[1:], generator=rng).to(case.pixels)
        with torch.no_grad():
            predictions = case.suspect(noise).argmax(1)
        progress("noise", 1, 1)
        target = int(predictions.mode().values)
        fraction = float((predictions == target).float().mean())
        backdoored = fraction > self.limit
        said = f'The suspect takes {fraction:.0%} of noise for "{case.class_name(target)}".'
        return Finding(
            detector="favourite-class",
            verdict="backdoored" if backdoored else "clean",
            reason=f"{said} More than {self.limit:.0%} is suspicious.",
            suspicious=fraction,
            limit=self.limit,
            measures=(
                Measure(
                    key="favourite",
                    name="Favourite class",
                    value=fraction,
                    limit=self.limit,
                    suspicious_when="above",
                    scale="fraction",
                    explanation="Fraction of noise that the suspect takes for one class.",
                    reading=said,
                    tone="suspicious" if backdoored else "innocent",
                ),
            ),
            targets=(Target(target, success=fraction),),
        )


def make() -> FavouriteClass:
    """What fedmend calls."""
    return FavouriteClass()
