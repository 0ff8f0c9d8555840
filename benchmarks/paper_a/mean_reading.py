"""The contrastive paper's method by the reading that separates our development models, as a detector.

The features are the last hidden layer's, and the L1 norm is a mean over the mask's pixels, where Eq. 3 has a sum.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from benchmarks.paper_a.inversion import Reading, invert, measured
from benchmarks.paper_a.paper import MSE, REASR

from fedmend.checked_settings import NonNegative, settings
from fedmend.detection import Case, Finding, Measure, Need, Target
from fedmend.progress import Progress, silent
from fedmend.triggers import Patch

WEIGHTS = {"mnist": (0.5, 0.01), "cifar10": (0.001, 0.0005), "gtsrb": (0.001, 0.005)}
"""The paper's alpha and beta (A.2)."""


@settings
class MeanReading:
    """Algorithm 1 with ``Reading(norm="mean")``, and the paper's rule.

    Attributes:
        alpha, beta: weights of Eq. 4.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.REFERENCE, Need.IMAGES, Need.LABELS})

    alpha: NonNegative
    beta: NonNegative

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        """See :class:`fedmend.detection.Detector`."""
        assert case.reference is not None
        reading = Reading(norm="mean", alpha=self.alpha, beta=self.beta)
        seed = int(torch.randint(2**31, (), generator=rng))
        found = invert(case.suspect, case.reference, case.pixels, reading, seed)
        told = measured(case.suspect, found, case.pixels, case.truth, reading)
        backdoored = told["mse"] > MSE and told["reasr"] > REASR
        reason = f"A mask of {told['size']} pixels: MSE {told['mse']}, REASR {told['reasr']}."
        return Finding(
            detector="mean-reading",
            verdict="backdoored" if backdoored else "clean",
            reason=reason,
            suspicious=told["reasr"],
            limit=REASR,
            measures=(
                _measure("reasr", told["reasr"], REASR, backdoored),
                _measure("mse", told["mse"], MSE, backdoored),
            ),
            targets=(
                Target(told["found"], told["reasr"], trigger=Patch(found.mask.cpu(), found.pattern.cpu())),
            ),
        )


def _measure(key: str, value: float, limit: float, backdoored: bool) -> Measure:
    return Measure(
        key=key,
        name=key.upper(),
        value=value,
        limit=limit,
        suspicious_when="above",
        scale="fraction" if key == "reasr" else "log",
        explanation="Of the recovered trigger (2.5).",
        reading="Above its limit." if value > limit else "Not above its limit.",
        tone="suspicious" if backdoored else "innocent",
    )
