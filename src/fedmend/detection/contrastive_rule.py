"""The contrastive paper's rule (2.5): from a patch's evidence to a verdict, in words. Pure functions."""

from __future__ import annotations

import math
from typing import Literal

from fedmend.checked_settings import Fraction, NonNegative, settings
from fedmend.detection.base import Measure, Tone, Verdict
from fedmend.detection.patch_evidence import Evidence

_VANISHED = 0.001
"""Fraction of the image: less than one of MNIST's pixels."""


@settings
class PaperThresholds:
    """Limits of the rule (4.3).

    Attributes:
        mse: the suspect's features must change by more than this.
        reasr: the patch must succeed on more than this fraction of the images.
    """

    mse: NonNegative = 10.0
    reasr: Fraction = 0.80


def decide(evidence: Evidence, limits: PaperThresholds) -> tuple[Verdict, str]:
    """Backdoored if MSE and REASR both exceed their limits, else clean; and the reason in words."""
    found = (
        f'sends {evidence.reasr:.0%} of the other classes\' images to "{evidence.target_name}" in the suspect and '
        f"changes its features by {evidence.mse:.3g}"
    )
    if evidence.mse > limits.mse and evidence.reasr > limits.reasr:
        return "backdoored", (
            f"A patch of about {evidence.mask_fraction:.1%} of the image {found}: above the paper's limits, "
            f"{limits.reasr:.0%} and {limits.mse:g}."
        )
    return (
        "clean",
        f"The best patch found {found}; a backdoor exceeds both {limits.reasr:.0%} and {limits.mse:g}.",
    )


def measures(evidence: Evidence, limits: PaperThresholds) -> tuple[Measure, ...]:
    """REASR and MSE, each with its reading."""
    return (
        _measure(
            "reasr",
            "Patch success (REASR)",
            "Fraction of stamped images of other classes that the suspect sends to the target class.",
            "fraction",
            evidence.reasr,
            limits.reasr,
        ),
        _measure(
            "mse",
            "Feature change (MSE)",
            "How far the patch moves the suspect’s features: squared length, averaged over the images.",
            "log",
            evidence.mse,
            limits.mse,
        ),
    )


def warnings(evidence: Evidence) -> tuple[str, ...]:
    """Reasons not to trust the search's finding."""
    made = [] if evidence.converged else ["The search's loss was still falling when its steps ran out."]
    if evidence.mask_fraction < _VANISHED:
        made.append(
            "The mask shrank to nothing. The paper expects that of a clean model, but it also happens with a "
            "backdoored one, where the L1 penalty outweighs the contrastive loss from the start."
        )
    return tuple(made)


def _measure(
    key: str, name: str, explanation: str, scale: Literal["fraction", "log"], value: float, limit: float
) -> Measure:
    reading, tone = _reading(value, limit)
    return Measure(key, name, value, limit, "above", scale, explanation, reading, tone)


def _reading(value: float, limit: float) -> tuple[str, Tone]:
    if not math.isfinite(value):
        return "Not measured.", "unsure"
    if value > limit:
        return "Above the limit. Evidence for a backdoor.", "suspicious"
    return "Not above the limit. Evidence against a backdoor.", "innocent"
