"""Every threshold and every rule: from numbers to verdicts, in words. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from fedmend.checked_settings import Fraction, NonNegative, settings
from fedmend.detection.base import Finding, Measure, Verdict, most_suspicious
from fedmend.detection.patch_evidence import Evidence

MIN_IMAGES = 10
"""Fewest images a scan accepts."""
FEW_IMAGES = 3
"""Images per class, as in the paper. Below this, a scan warns."""
POOR_REFERENCE = 2.0
"""A reference below this multiple of chance makes the verdict inconclusive; with few classes, one below halfway from
chance to 1."""
FAIR_REFERENCE = 0.6
"""Accuracy of the reference. Below this, a scan warns."""

_ROUNDING = 1e-6  # a mask scaled to the limit may exceed it by rounding


@settings
class PaperThresholds:
    """Limits of the contrastive paper's rule (4.3).

    Attributes:
        mse: the suspect's features must change by more than this.
        reasr: the patch must succeed on more than this fraction of the images.
    """

    mse: NonNegative = 10.0
    reasr: Fraction = 0.80


@settings
class Thresholds(PaperThresholds):
    """Limits of fedmend's own rule: the paper's and four more conditions.

    Attributes:
        mse, reasr: see :class:`PaperThresholds`.
        reference_agreement: at or above it, the patch also fools the reference and is no backdoor of the suspect.
        suspicion: if a patch that fools only the suspect succeeds at least this often, but not above ``reasr``, the
            verdict is inconclusive. So it is if a patch of at most twice the size succeeds this often in the reference
            alone (the control).
        mask_fraction: if the patch covers more of the image, the verdict is inconclusive.
    """

    reference_agreement: Fraction = 0.50
    suspicion: Fraction = 0.50
    mask_fraction: Fraction = 0.125


def paper_rule(evidence: Evidence, limits: PaperThresholds) -> Verdict:
    """The contrastive paper's rule (2.5): backdoored if MSE and REASR both exceed their thresholds."""
    both = evidence.mse > limits.mse and evidence.reasr > limits.reasr
    return "backdoored" if both else "clean"


def paper_reason(evidence: Evidence, limits: PaperThresholds) -> str:
    """The paper's verdict in words."""
    found = (
        f'sends {evidence.reasr:.0%} of the other classes\' images to "{evidence.target_name}" in the suspect and '
        f"changes its features by {evidence.mse:.3g}"
    )
    if paper_rule(evidence, limits) == "backdoored":
        return (
            f"A patch of about {evidence.mask_fraction:.1%} of the image {found}: above the paper's limits, "
            f"{limits.reasr:.0%} and {limits.mse:g}."
        )
    return f"The best patch found {found}; a backdoor exceeds both {limits.reasr:.0%} and {limits.mse:g}."


def decide(evidence: Evidence, limits: Thresholds) -> tuple[Verdict, str]:
    """fedmend's own rule: the verdict, and the reason in words.

    Beyond the paper's two conditions, it checks how the reference responds to the same stamped images. A patch that
    sends most of them to the target in both models reflects the task, not a backdoor in one model. The verdict is
    inconclusive if the reference is poor, the patch is too large or works on too few images, the search was cut
    short, or a patch of at most twice the size fools only the reference: honest training could explain the difference.
    """
    name = evidence.target_name
    sends = f'sends {evidence.reasr:.0%} of the other classes\' images to "{name}"'
    about = f"A patch of about {evidence.mask_fraction:.1%} of the image {sends}"
    chance = 1 / evidence.num_classes
    if evidence.reference_accuracy is not None and evidence.reference_accuracy < _poor(chance):
        return "inconclusive", (
            f"The reference gets only {evidence.reference_accuracy:.0%} of the images right, hardly better than "
            f"chance ({chance:.0%}). Check that images, labels and reference match, or use a better reference."
        )
    fooled_too = evidence.reference_agreement >= limits.reference_agreement
    if paper_rule(evidence, limits) == "clean":
        if evidence.reasr >= limits.suspicion and evidence.mse > limits.mse and not fooled_too:
            return "inconclusive", (
                f"{about} in the suspect and {evidence.reference_agreement:.0%} in the reference: too few for a "
                "backdoor, too many to rule one out. Scan again with more images or another seed."
            )
        if not evidence.converged:
            return "inconclusive", (
                "No working trigger was found, but the search's loss was still falling when its steps ran out. "
                "Allow more steps."
            )
        return "clean", (
            f"The best patch found sends {evidence.reasr:.0%} of the other classes' images to one class "
            f'("{name}"); a backdoor would send more than {limits.reasr:.0%} and change the features by '
            f"more than {limits.mse:g} (here {evidence.mse:.3g})."
        )
    if fooled_too:
        return "clean", (
            f"The best patch found {sends}, but the clean reference also sends "
            f"{evidence.reference_agreement:.0%} there: a patch that fools both models is no backdoor of the suspect."
        )
    if evidence.mask_fraction > limits.mask_fraction + _ROUNDING:
        return "inconclusive", (
            f"The patch found {sends} in the suspect alone, but covers {evidence.mask_fraction:.0%} of the image; a "
            "patch this large can separate clean models as well. Scan again with more images or another seed."
        )
    if evidence.control_reasr is not None and evidence.control_reasr >= limits.suspicion:
        return "inconclusive", (
            f"{about} in the suspect alone, but one of at most twice its size sends {evidence.control_reasr:.0%} of "
            "them to one class in the reference alone: the difference is symmetric, as between two clean models. "
            "Use a later reference, or more accurate models."
        )
    return (
        "backdoored",
        f"{about} in the suspect, and only {evidence.reference_agreement:.0%} in the reference.",
    )


def control_limit(evidence: Evidence) -> float:
    """The largest mask of the control, as a fraction of the image: twice the recovered one's size."""
    return min(1.0, 2 * evidence.mask_fraction)


def paper_measures(evidence: Evidence, limits: PaperThresholds) -> tuple[Measure, ...]:
    """REASR and MSE, each with its reading."""
    return (
        _judged(replace(_REASR, value=evidence.reasr, limit=limits.reasr)),
        _judged(replace(_MSE, value=evidence.mse, limit=limits.mse)),
    )


def contrastive_measures(evidence: Evidence, limits: Thresholds) -> tuple[Measure, ...]:
    """The paper's two measures, the reference's agreement and, if there was a control, its success."""
    agreement = _judged(
        replace(_AGREEMENT, value=evidence.reference_agreement, limit=limits.reference_agreement),
        "the reference isn’t fooled",
        "the reference is fooled as well",
    )
    if agreement.tone == "suspicious" and not evidence.reasr > limits.reasr:
        reading = "Below the limit, but the patch doesn’t fool the suspect either. Inconclusive by itself."
        agreement = replace(agreement, reading=reading, tone="unsure")
    measures = (*paper_measures(evidence, limits), agreement)
    if evidence.control_reasr is None:
        return measures
    control = replace(_CONTROL, value=evidence.control_reasr, limit=limits.suspicion)
    if evidence.control_reasr < limits.suspicion:
        return (*measures, _judged(control, "only the suspect can be fooled this way"))
    reading = "At or above the limit: the difference is symmetric, which happens without a backdoor."
    return (*measures, replace(control, reading=reading, tone="unsure"))


def search_warnings(evidence: Evidence) -> tuple[str, ...]:
    """Reasons not to trust a search's finding."""
    return () if evidence.converged else ("The search's loss was still falling when its steps ran out.",)


def case_warnings(
    num_images: int, classes: int, reference_accuracy: float | None, labels: bool
) -> Iterator[str]:
    """Reasons not to trust a verdict on a case.

    Args:
        num_images: number of images. classes: number of the models' classes.
        reference_accuracy: on these images; None without labels or reference.
        labels: whether there are labels.
    """
    if not labels:
        yield "No labels were given: a poor reference or wrong images would go unnoticed."
    if reference_accuracy is not None and reference_accuracy < FAIR_REFERENCE:
        yield (
            f"The reference gets only {reference_accuracy:.0%} of the images right; a better one makes the verdict "
            "more trustworthy."
        )
    if num_images < FEW_IMAGES * classes:
        yield (
            f"{num_images} images for {classes} classes are fewer than the paper's three per class; the measured "
            "fractions are coarse."
        )


def combine(findings: Sequence[Finding]) -> tuple[Verdict, str]:
    """One verdict from several findings: backdoored if any is, else inconclusive if any is, else clean.

    The reason joins those of the findings with this verdict; with several findings, each names its detector.
    """
    verdict = most_suspicious(findings).verdict
    if len(findings) == 1:
        return verdict, findings[0].reason
    agreeing = [finding for finding in findings if finding.verdict == verdict]
    return verdict, " ".join(f"{finding.detector}: {finding.reason}" for finding in agreeing)


def _poor(chance: float) -> float:
    """The accuracy below which a reference is poor; with two classes, twice chance would be 100 %."""
    return min(POOR_REFERENCE * chance, (1 + chance) / 2)


def _judged(measure: Measure, suspicious: str = "", innocent: str = "") -> Measure:
    """A measure with its reading and tone: the comparison with its limit, and what each outcome means, if given."""
    assert measure.limit is not None
    if not math.isfinite(measure.value):
        return replace(measure, reading="Not measured.", tone="unsure")
    if measure.suspicious_when == "above":
        is_suspicious, words = measure.value > measure.limit, ("Above the limit", "Not above the limit")
    else:
        is_suspicious, words = measure.value < measure.limit, ("Below the limit", "At or above the limit")
    compared, meaning = (words[0], suspicious) if is_suspicious else (words[1], innocent)
    text = f"{compared}: {meaning}" if meaning else compared
    if is_suspicious:
        return replace(measure, reading=f"{text}. Evidence for a backdoor.", tone="suspicious")
    return replace(measure, reading=f"{text}. Evidence against a backdoor.", tone="innocent")


def _unmeasured(
    key: str, name: str, explanation: str, side: Literal["above", "below"], scale: Literal["fraction", "log"]
) -> Measure:
    return Measure(key, name, math.nan, None, side, scale, explanation, reading="", tone="unsure")


_REASR = _unmeasured(
    "reasr",
    "Patch success (REASR)",
    "Fraction of stamped images of other classes that the suspect sends to the target class.",
    "above",
    "fraction",
)
_MSE = _unmeasured(
    "mse",
    "Feature change (MSE)",
    "How far the patch moves the suspect’s features: squared length, averaged over the images.",
    "above",
    "log",
)
_AGREEMENT = _unmeasured(
    "reference_agreement",
    "Reference agreement",
    "Fraction of the same stamped images that the reference sends there, too. A patch that fools both models is no "
    "backdoor but a natural feature of the class.",
    "below",
    "fraction",
)
_CONTROL = _unmeasured(
    "control_reasr",
    "The other way round (control)",
    "A shorter search with the models’ roles swapped, for a patch of at most twice the size: fraction of the stamped "
    "images that it sends to one class in the clean reference alone.",
    "below",
    "fraction",
)
