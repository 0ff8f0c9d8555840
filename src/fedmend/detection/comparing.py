"""The statistic of fedmend's own detector: how much better one class's trigger works than all others' do.

It depends on predictions only, so neither on the logits' scale nor on the number of classes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from fedmend.detection.search.aimed_search import Strength
from fedmend.detection.search.families import works_small


@dataclass(frozen=True)
class Comparison:
    """What the searches for one family of triggers found.

    The *strength* of an aim is the sum, over the family's sizes, of the fraction of images on which its trigger works:
    the number of sizes, each about half of the one before, that it survives. The *lead* is by how many sizes the
    strongest aims are, on average, ahead of every other aim and of the swapped search.

    Attributes:
        family: its name and kind of aim, such as "patch, all-to-one".
        strengths: in the suspect, where the reference keeps its predictions; strongest first.
        swapped: the same with the models' roles swapped; None if that search was not needed.
        leaders: how many of the strongest aims stand out.
        lead: by how much, in sizes.
    """

    family: str
    strengths: tuple[Strength, ...]
    swapped: tuple[Strength, ...] | None
    leaders: int
    lead: float

    @property
    def of_pairs(self) -> bool:
        """Whether its aims are pairs of classes."""
        return self.family.endswith("one-to-one")

    @property
    def leading(self) -> tuple[Strength, ...]:
        """The strongest aims, those that stand out."""
        return self.strengths[: self.leaders]

    @property
    def may_be_pairs(self) -> bool:
        """Whether what stands out among patches for all source classes is none of a backdoor for all.

        Planting a pair disturbs other classes, too. A backdoor for all source classes works at small sizes.
        """
        return self.family == "patch, all-to-one" and not any(
            each.aim.source is None and works_small(each.rates) for each in self.leading
        )

    def without(self, targets: Collection[int]) -> Comparison:
        """The same without the aims at some targets; the lead is 0 if no leader is left."""
        left = [each for each in self.strengths if each.aim.target not in targets]
        leaders = sum(each.aim.target not in targets for each in self.leading)
        if leaders == self.leaders:
            return self
        lead = 0.0
        if leaders:
            rival = max(self.swapped_total or 0.0, _rival(left, leaders))
            lead = fmean(each.total for each in left[:leaders]) - rival
        return replace(self, strengths=tuple(left), leaders=leaders, lead=lead)

    def lead_unswapped(self, classes: int) -> float:
        """The largest lead beyond the other aims alone, of a model with so many classes."""
        return compare(self.family, self.strengths, None, most_leaders(classes)).lead

    @property
    def others(self) -> float:
        """The strength of the strongest rival; 0 if there is none."""
        return _rival(self.strengths, self.leaders)

    @property
    def swapped_total(self) -> float | None:
        """The greatest strength in the swapped search; None without one."""
        return None if self.swapped is None else max((each.total for each in self.swapped), default=0.0)


def most_leaders(classes: int) -> int:
    """How many classes may stand out together, as several backdoors in one model do."""
    return max(1, min(3, classes // 2))


def compare(
    family: str, strengths: Sequence[Strength], swapped: Sequence[Strength] | None, most_leaders: int
) -> Comparison:
    """The largest lead of the strongest one, two, ... aims.

    Args:
        family: see :class:`Comparison`.
        strengths: strongest first; may be empty.
        swapped: likewise, or None.
        most_leaders: several backdoors in one model have several leaders, up to this many.
    """
    floor = max((each.total for each in swapped), default=0.0) if swapped is not None else 0.0
    lead, leaders = (
        max(
            (fmean(each.total for each in strengths[:count]) - max(floor, _rival(strengths, count)), count)
            for count in range(1, max(1, min(most_leaders, len(strengths) - 1)) + 1)
        )
        if strengths
        else (0.0, 0)
    )
    return Comparison(family, tuple(strengths), None if swapped is None else tuple(swapped), leaders, lead)


def _rival(strengths: Sequence[Strength], leaders: int) -> float:
    """The strength of the strongest aim besides the leaders, of another target if there is one.

    A trigger for one source class often works for others, too: pairs with a leader's target are no rivals.
    """
    targets = {each.aim.target for each in strengths[:leaders]}
    rest = strengths[leaders:]
    others = [each for each in rest if each.aim.target not in targets] or rest
    return max((each.total for each in others), default=0.0)
