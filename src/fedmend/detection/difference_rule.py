"""The decision rule of the differential detector: from leads to a verdict, in words. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from fedmend.checked_settings import NonNegative, Positive, settings
from fedmend.detection.base import Measure, Verdict
from fedmend.detection.comparing import Comparison
from fedmend.detection.search.aimed_search import Strength
from fedmend.detection.weak_reference import FACTOR

IN_BOTH = "in both models"
"""Ends the name of a family of triggers that work in both models."""

_OTHERS, _MOST_NAMED = "triggers of other kinds", 3
FORGOTTEN = 0.5
"""A class is forgotten if it is predicted for fewer than this fraction of the images that are labelled so."""


@settings
class DifferenceLimits:
    """Limits of the rule, in sizes (see :class:`~fedmend.detection.comparing.Comparison`).

    Attributes:
        lead: from this lead on, a model is backdoored; from twice as much if the reference is much less accurate.
        unsure: from this lead on, the verdict is inconclusive.
        pair_lead, pair_unsure: the same for pairs of classes: there are many more pairs, and a few images of one class
            differ less from each other, so that honest models differ more.
        sure: a lead from ``unsure`` to below ``lead`` plus this is measured two more times; the median counts.
        together: if no trigger works in the suspect alone, but one class leads by this much among triggers that work in
            both models, both may be backdoored, and the verdict is inconclusive.
        several_together: the same for two or three classes that lead: honest models have more such leads.
    """

    lead: Positive = 0.8
    unsure: NonNegative = 0.5
    pair_lead: Positive = 1.2
    pair_unsure: NonNegative = 0.9
    sure: NonNegative = 0.4
    together: Positive = 0.8
    several_together: Positive = 1.0

    def of(self, of_pairs: bool) -> tuple[float, float]:
        """From which leads on a model is backdoored, and the verdict inconclusive."""
        return (self.pair_lead, self.pair_unsure) if of_pairs else (self.lead, self.unsure)

    def for_weak_reference(self) -> DifferenceLimits:
        """Those for a reference that is much less accurate than the suspect."""
        return replace(self, lead=FACTOR * self.lead, pair_lead=FACTOR * self.pair_lead)

    def found(self, comparison: Comparison) -> bool:
        """Whether a comparison says backdoored."""
        return comparison.lead >= self.of(comparison.of_pairs)[0]

    def convinced(self, comparison: Comparison, forgotten: frozenset[int]) -> bool:
        """Whether it does so of a class that is not among the forgotten ones."""
        return self.found(comparison) and any(each.aim.target not in forgotten for each in comparison.leading)

    def in_both(self, comparison: Comparison) -> float:
        """From which lead on both models may be backdoored."""
        return self.together if comparison.leaders <= 1 else self.several_together

    def nearest(self, in_both: Iterable[Comparison]) -> Comparison:
        """Of comparisons by triggers that work in both models, the one with the largest lead in units of its limit."""
        return max(in_both, key=lambda each: each.lead / self.in_both(each))

    def excess(self, comparison: Comparison) -> float:
        """The lead in units of the limit: 1 or more is backdoored."""
        return comparison.lead / self.of(comparison.of_pairs)[0]


@dataclass(frozen=True)
class Evidence:
    """What the rule judges.

    Attributes:
        comparisons: one per family that was searched.
        together: likewise, of triggers that work in both models.
        blind: why a model can't be searched; None if both can.
        class_names: one per class.
        not_searched: families that were left out.
        forgotten: classes that the reference hardly predicts any more, see :func:`forgotten_classes`.
        cut: families that were left out since the model is large.
        too_rare: source classes of which the images are too few to search pairs; empty if none were searched.
        undecided: whether triggers work in the suspect alone, and too few classes were compared to tell if they lead.
        weak_reference: the accuracies of reference and suspect if the first is much lower; None if it isn't.
    """

    comparisons: tuple[Comparison, ...]
    together: tuple[Comparison, ...]
    blind: str | None
    class_names: tuple[str, ...]
    not_searched: tuple[str, ...]
    forgotten: frozenset[int] = frozenset()
    cut: tuple[str, ...] = ()
    too_rare: tuple[int, ...] = ()
    undecided: bool = False
    weak_reference: tuple[float, float] | None = None


def forgotten_classes(predictions: Tensor, labels: Tensor | None, classes: int) -> frozenset[int]:
    """Classes that a model predicts for fewer than half as many images as are labelled so; none without labels.

    In a very non-IID federation a round can make a model forget a class, and an honest later round restore it. To a
    search for what works in the later model alone, that looks like a backdoor.

    Args:
        predictions: the reference's classes, int64 (N,).
        labels: int64 (N,), or None.
        classes: number of classes.
    """
    if labels is None:
        return frozenset()
    predicted = predictions.bincount(minlength=classes)
    labelled = labels.to(predictions.device).bincount(minlength=classes)
    return frozenset((predicted < FORGOTTEN * labelled).nonzero().flatten().tolist())


def standing_out(comparisons: Sequence[Comparison], limits: DifferenceLimits) -> list[Comparison]:
    """The comparisons that say backdoored, each backdoor by one of them.

    Patches for all source classes that may be of pairs don't count where pairs with other targets lead by more. Of
    pairs, those don't count whose target stands out for all source classes already; the others must lead without them.
    """
    found = [each for each in comparisons if limits.found(each)]
    pairs = [each for each in found if each.of_pairs]
    others = [each for each in found if not any(_explains(pair, each) for pair in pairs)]
    named = {each.aim.target for found in others if not found.of_pairs for each in found.leading}
    apart = [each.without(named) if each.of_pairs else each for each in others]
    return [each for each in apart if limits.found(each)]


def _explains(pairs: Comparison, others: Comparison) -> bool:
    apart = not _targets(pairs) & _targets(others)
    return others.may_be_pairs and pairs.lead > others.lead and apart


def _targets(comparison: Comparison) -> set[int]:
    return {each.aim.target for each in comparison.leading}


def decide(evidence: Evidence, limits: DifferenceLimits) -> tuple[Verdict, str]:
    """The verdict, and the reason in words."""
    if evidence.blind is not None:
        return "inconclusive", (
            f"{evidence.blind[0].upper()}{evidence.blind[1:]}. A search by gradient says nothing about such a model; "
            "scan it without what hides the gradient, such as rounding."
        )
    found = standing_out(evidence.comparisons, limits)
    convincing = [each for each in found if limits.convinced(each, evidence.forgotten)]
    if convincing:
        return "backdoored", " ".join(_found(each, evidence) for each in convincing)
    if found:
        return "inconclusive", (
            f"{_found(found[0], evidence)} But the reference has almost forgotten "
            f"{_name(found[0].strengths[0], evidence)}: it predicts the class for fewer than half as many images as "
            "are labelled so, and an honest round that restores a class looks like a backdoor. Use a reference that "
            "knows the class."
        )
    for each in evidence.comparisons:
        enough, unsure = limits.of(each.of_pairs)
        if each.lead < unsure:
            continue
        return "inconclusive", (
            f"{_found(each, evidence)} That is too little for a backdoor ({enough:g}) and too much to rule one out. "
            "Scan again with more images, a reference closer to the suspect, or more effort."
        )
    if evidence.weak_reference is not None:
        for each in evidence.comparisons:
            ahead = each.lead_unswapped(len(evidence.class_names))
            if ahead >= limits.of(each.of_pairs)[0] / FACTOR:
                return "inconclusive", _ahead_of_classes(each, ahead, evidence.weak_reference, evidence)
    if evidence.undecided:
        return "inconclusive", (
            "Triggers for several classes work in the suspect alone, and for so large a model too few classes were "
            "searched to say whether these stand out. Scan with --effort exhaustive, on a GPU if there is one."
        )
    for each in evidence.together:
        if each.lead >= limits.in_both(each):
            triggers = (
                "small patches" if each.family.startswith("patch") else "faint changes of the whole image"
            )
            return "inconclusive", (
                f"Both models may be backdoored: {triggers} send images to "
                f"{' and '.join(_name(strength, evidence) for strength in each.leading)} in the suspect and in the "
                f"reference alike, {each.lead:.1f} sizes smaller than for any other class. Use an earlier reference."
            )
    best = max(evidence.comparisons, key=limits.excess)
    return "clean", (
        f"No class stands out: the strongest candidate leads by {max(0.0, best.lead):.1f} sizes; a backdoor leads by "
        f"{limits.of(best.of_pairs)[0]:g} or more. Searched: "
        f"{'; '.join(each.family for each in evidence.comparisons)}. Not covered: "
        f"{'; '.join((*evidence.not_searched, *_rare_sources(evidence), *_not_compared(evidence), _OTHERS))}."
    )


def _ahead_of_classes(
    comparison: Comparison, ahead: float, accuracies: tuple[float, float], evidence: Evidence
) -> str:
    lower, higher = accuracies
    return (
        f"A trigger {_sends(comparison.strengths[0], evidence)} in the suspect alone, {ahead:.1f} sizes ahead of other "
        f"classes ({comparison.family}). As small triggers work in the reference alone; but that gets only "
        f"{lower:.0%} of the images right, and the suspect {higher:.0%}, so it says little. Use a reference about as "
        "accurate as the suspect."
    )


def _rare_sources(evidence: Evidence) -> tuple[str, ...]:
    if not evidence.too_rare:
        return ()
    names = ", ".join(f'"{evidence.class_names[each]}"' for each in evidence.too_rare[:_MOST_NAMED])
    rest = len(evidence.too_rare) - _MOST_NAMED
    return (
        f"one-to-one with the source class {names}{f' or {rest} more' if rest > 0 else ''} (too few images)",
    )


def _not_compared(evidence: Evidence) -> tuple[str, ...]:
    if evidence.together or any(each.endswith(IN_BOTH) for each in evidence.cut):
        return ()
    return ("a backdoor in both models, which needs three classes to show",)


def measures(evidence: Evidence, limits: DifferenceLimits) -> tuple[Measure, ...]:
    """The lead of each family, and of triggers that work in both models."""
    found = [_measure(each, limits.of(each.of_pairs)[0], "suspicious") for each in evidence.comparisons]
    together = [
        replace(
            _measure(each, limits.in_both(each), "unsure"),
            explanation="The same for triggers that work in the suspect and in the reference alike.",
        )
        for each in evidence.together
    ]
    return (*found, *together)


def _found(comparison: Comparison, evidence: Evidence) -> str:
    first, *others = comparison.leading
    said = f"A trigger {_sends(first, evidence)} in the suspect alone (up to {max(first.rates):.0%})"
    for each in others:
        said += f", another {_sends(each, evidence)} (up to {max(each.rates):.0%})"
    return f"{said}: {comparison.lead:.1f} sizes ahead of the others ({comparison.family})."


def _sends(strength: Strength, evidence: Evidence) -> str:
    aim = strength.aim
    sources = "other classes" if aim.source is None else f'"{evidence.class_names[aim.source]}"'
    return f"sends images of {sources} to {_name(strength, evidence)}"


def _name(strength: Strength, evidence: Evidence) -> str:
    return f'"{evidence.class_names[strength.aim.target]}"'


def _measure(comparison: Comparison, limit: float, tone: str) -> Measure:
    above = comparison.lead >= limit
    return Measure(
        key=f"lead_{re.sub('[ ,-]+', '_', comparison.family)}",
        name=f"Lead ({comparison.family})",
        value=comparison.lead,
        limit=limit,
        suspicious_when="above",
        scale="plain",
        explanation="How many sizes, each about half of the one before, the strongest trigger survives beyond every "
        "other class's and beyond every class's when the models' roles are swapped.",
        reading="At or above the limit: this class stands out."
        if above
        else "Below the limit: no class stands out.",
        tone=("suspicious" if tone == "suspicious" else "unsure") if above else "innocent",
    )
