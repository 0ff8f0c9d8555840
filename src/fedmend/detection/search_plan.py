"""How a search is cut for a model that is too large for all of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from fedmend.detection.search.aimed_search import AimedSearch
from fedmend.detection.search.families import Family
from fedmend.detection.search.shortlist import PASSES_TO_SHORTLIST

WORK = 16e12
"""Multiply-adds of a search, beyond which it is cut: two cores with AVX2 at 20 billion a second each, a ResNet-50's
rate, do them in seven minutes."""

_CUTS = (
    {"shortlist": 64},
    {"shortlist": 16, "finalists": 8, "least": 3, "refine_steps": 6, "batch_size": 3, "judged": 32},
    {"shortlist": 12, "finalists": 6, "least": 2, "refine_steps": 5, "batch_size": 2, "judged": 24},
    {"shortlist": 8, "finalists": 4, "least": 2, "refine_steps": 4, "batch_size": 2, "judged": 16},
    {"shortlist": 6, "finalists": 3, "least": 2, "refine_steps": 3, "batch_size": 2, "judged": 12},
)
_EXPLORE_STEPS = (20, 16, 12, 8, 6)
_COPIES = 12
"""Of candidates while they are optimised: values, moments, gradients, stamped images and what lies between."""


@dataclass(frozen=True)
class SearchPlan:
    """A search that a model's size allows.

    Attributes:
        search: the settings.
        passes: about how many passes (see :class:`~fedmend.detection.search.work.Work`) all families may take together;
            infinite where nothing was cut.
        cost: multiply-adds of a pass.
    """

    search: AimedSearch
    passes: float = math.inf
    cost: int = 0

    @property
    def limited(self) -> bool:
        """Whether the search is cut to a number of passes."""
        return self.passes < math.inf

    @property
    def notes(self) -> tuple[str, ...]:
        """What was cut, for the report."""
        search, notes = self.search, []
        if self.limited:
            notes.append(
                f"a large model, {self.cost / 1e9:.1f} billion multiply-adds an image: the search was cut to about "
                f"{self.passes:,.0f} passes, with {search.finalists} classes refined, in {search.refine_steps} steps a "
                f"size on {search.batch_size} images, and judged on {search.judged}; --effort exhaustive cuts nothing"
            )
        if search.shortlist is not None:
            notes.append(f"explored: the {search.shortlist} most promising aims, if there were more")
        return tuple(notes)

    @property
    def warnings(self) -> tuple[str, ...]:
        """That a cut search may miss more."""
        if not self.limited:
            return ()
        return (
            "The model is large, and the search was cut; how often such a search misses a backdoor or sees one that "
            "isn't there was not measured.",
        )


def planned(
    search: AimedSearch, family: Family, classes: int, *, cost: int, images: Tensor, memory: int | None
) -> SearchPlan:
    """The search as it is, or the least cut one whose first family takes at most :data:`WORK`.

    Args:
        search: the settings for a model of any size.
        family: the first to be searched, for every class, in both directions.
        classes: number of classes.
        cost: multiply-adds of a model for one image; 0 for no limit on the work.
        images: float (N, C, H, W).
        memory: bytes for candidates; None for no limit.
    """
    plan = SearchPlan(search, cost=cost)
    if 2 * passes_of(search, family, classes) * cost > WORK:
        tried = [_cut(search, number) for number in range(len(_CUTS))]
        fitting = (each for each in tried if 2 * passes_of(each, family, classes) * cost <= WORK)
        plan = SearchPlan(next(fitting, tried[-1]), WORK / cost, cost)
    if memory is None:
        return plan
    channels, height, width = images.shape[1:]
    a_candidate = _COPIES * (channels + 1) * height * width * images.element_size()
    most = max(1, memory // (a_candidate * search.restarts))
    if min(classes, plan.search.shortlist or classes) > most:
        return replace(plan, search=replace(plan.search, shortlist=most))
    return plan


def passes_of(search: AimedSearch, family: Family, aims: int) -> int:
    """About how many passes a search for so many aims takes in one direction, if none of them is dropped early."""
    shortlist = search.shortlist or aims
    passes = PASSES_TO_SHORTLIST if shortlist < aims else 0
    left = min(aims, shortlist) * search.restarts
    for number in range(1, search.explore_steps + 1):
        passes += 3 * left * (family.batch_size if left <= search.many else 1)
        if number == -(-search.explore_steps // 10):
            left = min(left, search.many)
        if number == search.explore_steps // 2:
            left = min(left, search.finalists)
    left = min(aims, search.finalists)
    for _ in family.sizes:
        passes += left * (4 * search.refine_steps * search.batch_size + 2 * search.judged)
        left = min(left, max(search.least, left // 2))
    return passes


def _cut(search: AimedSearch, number: int) -> AimedSearch:
    """The search with each setting at most that of the cut."""
    cut = {**_CUTS[number], "explore_steps": _EXPLORE_STEPS[number]}
    given = {name: getattr(search, name) for name in cut}
    return replace(
        search,
        **{name: most if given[name] is None else min(given[name], most) for name, most in cut.items()},
    )
