"""The statistic of fedmend's own detector: how much better one class's trigger works than all others' do.

It depends on predictions only, so neither on the logits' scale nor on the number of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedmend.detection.search.aimed_search import Strength


@dataclass(frozen=True)
class Comparison:
    """What the searches for one family of triggers found.

    The *strength* of an aim is the sum, over the family's sizes, of the fraction of images on which its trigger works:
    the number of sizes, each about half of the one before, that it survives. The *lead* is by how many sizes the
    strongest aims are ahead of every other aim and of the swapped search.

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
    def others(self) -> float:
        """The strength of the strongest aim that isn't a leader; 0 if there is none."""
        return self.strengths[self.leaders].total if self.leaders < len(self.strengths) else 0.0

    @property
    def swapped_total(self) -> float | None:
        """The greatest strength in the swapped search; None without one."""
        return None if self.swapped is None else max((each.total for each in self.swapped), default=0.0)


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
    totals = [each.total for each in strengths] or [0.0]
    leads = [
        (totals[count - 1] - max(floor, totals[count] if count < len(totals) else 0.0), count)
        for count in range(1, min(most_leaders, len(totals)) + 1)
        if count < len(totals) or len(totals) == 1
    ]
    lead, leaders = max(leads)
    return Comparison(family, tuple(strengths), None if swapped is None else tuple(swapped), leaders, lead)
