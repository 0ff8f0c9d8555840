"""What is decided whatever the detector: when to warn about a case, and one verdict from several findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fedmend.detection.base import Finding, Verdict, most_suspicious

MIN_IMAGES = 10
"""Fewest images a scan accepts."""
FEW_IMAGES = 3
"""Images per class, as in the paper. Below this, a scan warns."""
FAIR_REFERENCE = 0.6
"""Accuracy of the reference. Below this, a scan warns."""
WITHOUT_REFERENCE = (
    "No reference was given, so the model was compared with nothing. Such a scan can tell that one class stands out "
    "from the others of the same model, or that some images do. It can't tell a backdoor from a class that stands out "
    "by nature, and can't see a backdoor that makes none stand out. A clean verdict is weak evidence; compare with an "
    "earlier, clean model if there is one."
)
"""What a scan without a reference can tell, and what it can't."""
_MOST_REASONS = 2


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

    The reason joins those of the findings with this verdict; with several findings, each names its detector. Of more
    than two it gives one: the first that has a p-value, if any has.
    """
    verdict = most_suspicious(findings).verdict
    if len(findings) == 1:
        return verdict, findings[0].reason
    agreeing = [finding for finding in findings if finding.verdict == verdict]
    if len(agreeing) <= _MOST_REASONS:
        return verdict, " ".join(f"{finding.detector}: {finding.reason}" for finding in agreeing)
    first = min(agreeing, key=lambda finding: finding.p_value is None)
    return verdict, f"{len(agreeing)} of {len(findings)} methods say so. {first.detector}: {first.reason}"
