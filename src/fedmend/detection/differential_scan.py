"""The differential detector at work: which families it searches, in which direction, and how often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from fedmend.detection.base import Case, Target
from fedmend.detection.comparing import Comparison, compare, most_leaders
from fedmend.detection.difference_rule import IN_BOTH, DifferenceLimits, Evidence, standing_out
from fedmend.detection.search.aimed_search import AimedSearch, Strength, Task
from fedmend.detection.search.aims import Aim, all_to_one, pairs
from fedmend.detection.search.direction import Direction
from fedmend.detection.search.families import (
    ADDITIONS,
    PAIR_PATCHES,
    PATCHES,
    SMALL_PATCHES,
    Family,
    works_small,
)
from fedmend.detection.search.gradients import why_blind
from fedmend.detection.search.recovering import PASSES_TO_RECOVER, recover, smallest
from fedmend.detection.search.source_classes import specificity
from fedmend.detection.search_plan import SearchPlan, passes_of
from fedmend.progress import Progress
from fedmend.seeds import generator
from fedmend.triggers import Addition, Patch

Effort = Literal["quick", "standard", "exhaustive"]

FEWEST_PER_SOURCE = 8
"""Images of a source class below which its pairs aren't searched: fractions of fewer images are too coarse."""
_STAGE = "trigger inversion"


@dataclass(frozen=True)
class _Plan:
    """One family to search, with aims."""

    family: Family
    of_pairs: bool

    @property
    def name(self) -> str:
        return f"{self.family.name}, {'one-to-one' if self.of_pairs else 'all-to-one'}"


@dataclass(eq=False)
class DifferentialScan:
    """One scan at work.

    Attributes:
        effort, limits: see :class:`~fedmend.detection.differential.Differential`.
        plan: the search.
        forward, backward: from suspect to reference and back; they count one work.
        forgotten: classes that the reference hardly predicts any more.
        seed: of all searches.
        progress: called after each gradient step.
        stop_reason: why it ended.
        cut: families for which the passes didn't suffice.
        undecided: whether they didn't suffice to compare enough classes.
    """

    effort: Effort
    limits: DifferenceLimits
    plan: SearchPlan
    forward: Direction
    backward: Direction
    forgotten: frozenset[int]
    seed: int
    progress: Progress
    stop_reason: str = ""
    cut: list[str] = field(default_factory=list)
    undecided: bool = False
    done: int = 0

    def evidence(self, case: Case) -> Evidence:
        """Search the families and compare the classes."""
        blind = self._blind()
        comparisons: list[Comparison] = []
        together: list[Comparison] = []
        if blind is None:
            for plan in self._plans():
                if comparisons and not self._affords(plan):
                    self.cut.append(plan.name)
                    continue
                comparisons.append(self._narrowed(self._compared(plan)))
                unclear = comparisons[-1].may_be_pairs and self._with_pairs
                convincing = self._convincing(comparisons)
                if convincing and self.effort != "exhaustive" and not unclear:
                    self.stop_reason = f"a trigger of the family {convincing[0].family} stands out"
                    break
            if not self._convincing(comparisons) and self.forward.classes > 2:
                together = list(self._together())
        self.stop_reason = self.stop_reason or "every family was searched"
        return Evidence(
            comparisons=tuple(comparisons),
            together=tuple(together),
            blind=blind,
            class_names=tuple(case.class_name(each) for each in range(self.forward.classes)),
            not_searched=(*self._not_searched(), *self.cut),
            forgotten=self.forgotten,
            cut=tuple(self.cut),
            too_rare=self._too_rare if any(each.of_pairs for each in comparisons) else (),
            undecided=self.undecided,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What it cost, for the report, where the plan limits that."""
        if not self.plan.limited:
            return ()
        return (f"the search took {self.forward.work.passes:,} passes",)

    def targets(self, evidence: Evidence) -> tuple[Target, ...]:
        """The aims that stand out, their triggers recovered; if none does, the one that comes closest."""
        found = standing_out(evidence.comparisons, self.limits)
        if found:
            return tuple(self._recovered(strength) for each in found for strength in each.leading)
        closest = max(evidence.comparisons, key=self.limits.excess, default=None)
        nearest = closest.strengths[:1] if closest is not None else ()
        return tuple(_target(strength, *smallest(strength)) for strength in nearest)

    def _recovered(self, strength: Strength) -> Target:
        if not self._affords_passes(PASSES_TO_RECOVER):
            return _target(strength, *smallest(strength))
        rng = generator(self.seed, "recovery", strength.aim.target, *strength.aim.sources)
        return _target(strength, *recover(Task(self.forward, PATCHES, rng, self._step), strength))

    def finish(self) -> None:
        """Report that the search is over."""
        if self.done:
            self.progress(_STAGE, self.done, self.done)

    def _blind(self) -> str | None:
        for name, direction in (("suspect", self.forward), ("reference", self.backward)):
            count = 1 if self.plan.limited else 4
            reason = why_blind(direction, generator(self.seed, "gradient", name), count)
            if reason is not None:
                return f"the {name} can't be searched: {reason}"
        return None

    def _plans(self) -> Iterator[_Plan]:
        yield _PATCHES_TO_ONE if self.forward.classes > 2 else _SMALL_TO_ONE
        if self.effort == "quick":
            return
        if self._with_pairs:
            yield _PAIRS
        yield _ADDITIONS
        if self.effort == "exhaustive" and self._with_pairs:
            yield _Plan(ADDITIONS, of_pairs=True)

    def _not_searched(self) -> tuple[str, ...]:
        names = ["patch, one-to-one", "addition, all-to-one", "addition, one-to-one"]
        searched = {plan.name for plan in self._plans()}
        return tuple(name for name in names if name not in searched)

    def _sources(self, direction: Direction) -> torch.Tensor:
        counts = direction.kept.bincount(minlength=direction.classes)
        return (counts >= FEWEST_PER_SOURCE).nonzero().flatten()

    @property
    def _too_rare(self) -> tuple[int, ...]:
        searched = set(self._sources(self.forward).tolist())
        return tuple(each for each in range(self.forward.classes) if each not in searched)

    def _convincing(self, comparisons: list[Comparison]) -> list[Comparison]:
        return [each for each in comparisons if self.limits.convinced(each, self.forgotten)]

    def _compared(self, plan: _Plan) -> Comparison:
        """The comparison; near the limits, the median of three."""
        first = self._once(plan, 0)
        enough, unsure = self.limits.of(plan.of_pairs)
        if not unsure <= first.lead < enough + self.limits.sure or not self._affords(plan, 4):
            return first
        return sorted([first, self._once(plan, 1), self._once(plan, 2)], key=lambda each: each.lead)[1]

    def _narrowed(self, found: Comparison) -> Comparison:
        """With each leading class as a pair where the best trigger for one source class hardly works on others.

        A trigger planted for one source class has larger variants that work on every class; only where a small one
        does, too, need no pair be searched.
        """
        if found.of_pairs or not self.limits.found(found) or not self._with_pairs:
            return found
        if not self._affords(_PAIRS):
            return found
        strengths = list(found.strengths)
        for index, strength in enumerate(strengths[: found.leaders]):
            if works_small(strength.rates):
                continue
            task = self._task(_PAIRS, self.forward, strength.aim.target)
            sources = pairs(self._sources(self.forward), [strength.aim.target])
            best = self.plan.search.refine(task, self.plan.search.explore(task, sources))
            if best and specificity(task, best[0]) >= _FOR_ONE_SOURCE:
                strengths[index] = best[0]
        return replace(found, strengths=tuple(strengths))

    @property
    def _with_pairs(self) -> bool:
        return self.effort != "quick" and len(self._sources(self.forward)) > 0 and self.forward.classes > 2

    def _once(self, plan: _Plan, number: int) -> Comparison:
        classes, search = self.forward.classes, self.plan.search
        enough, unsure = self.limits.of(plan.of_pairs)
        strengths = self._strengths(plan, self.forward, search, number)
        if not strengths or strengths[0].total < unsure:
            return compare(plan.name, strengths, None, 1)
        swapped = self._strengths(plan, self.backward, search, number)
        found = compare(plan.name, strengths, swapped, most_leaders(classes))
        if found.lead >= enough or strengths[0].total - (found.swapped_total or 0.0) < enough:
            return found
        wide = min(3 * classes, _WIDEST)
        if not self._affords(plan, 2):
            self.undecided = True
            return found
        wider = self._strengths(plan, self.forward, replace(search, finalists=wide, least=wide), number)
        return compare(plan.name, wider, swapped, classes if plan.of_pairs else classes // 2)

    def _strengths(
        self, plan: _Plan, direction: Direction, search: AimedSearch, number: int
    ) -> list[Strength]:
        task = self._task(plan, direction, number)
        return search.refine(task, search.explore(task, self._aims(plan, direction)))

    def _together(self) -> Iterator[Comparison]:
        """The classes compared by triggers that work in both models."""
        explorable = self.plan.search.shortlist or self.forward.classes
        for plan in (_SMALL_TO_ONE, _ADDITIONS)[: 1 if self.effort == "quick" else 2]:
            name = f"{plan.family.name}, {IN_BOTH}"
            if explorable < self.forward.classes or not self._affords(plan):
                self.cut.append(name)
                continue
            task, search = self._task(plan, self.forward, 0), self.plan.search
            explored = search.explore(task, all_to_one(self.forward.classes), together=True)
            strengths = search.refine(task, explored, together=True)
            yield self.limits.nearest(
                compare(name, strengths, None, most) for most in (1, most_leaders(self.forward.classes))
            )

    def _affords(self, plan: _Plan, times: int = 1) -> bool:
        """Whether the passes suffice for ``times`` searches of a family in one direction."""
        sources = len(self._sources(self.forward)) if plan.of_pairs else 1
        aims = sources * min(self.forward.classes, MOST_TARGETS if plan.of_pairs else self.forward.classes)
        return self._affords_passes(times * passes_of(self.plan.search, plan.family, aims))

    def _affords_passes(self, passes: int) -> bool:
        return self.forward.work.passes + passes <= self.plan.passes

    def _task(self, plan: _Plan, direction: Direction, number: int) -> Task:
        role = "suspect" if direction is self.forward else "reference"
        return Task(direction, plan.family, generator(self.seed, plan.name, role, number), self._step)

    def _step(self) -> None:
        self.done += 1
        self.progress(_STAGE, self.done, max(_STEPS, self.done * 5 // 4))

    def _aims(self, plan: _Plan, direction: Direction) -> list[Aim]:
        everyone = list(range(direction.classes))
        if not plan.of_pairs:
            return all_to_one(direction.classes)
        targets = everyone
        if direction.classes > MOST_TARGETS:
            task = self._task(_Plan(plan.family, of_pairs=False), direction, 0)
            explored = replace(self.plan.search, finalists=MOST_TARGETS).explore(
                task, all_to_one(direction.classes)
            )
            targets = sorted(aim.target for aim in explored.aims)
        return pairs(self._sources(direction), targets)


_PATCHES_TO_ONE, _PAIRS = _Plan(PATCHES, of_pairs=False), _Plan(PAIR_PATCHES, of_pairs=True)
_SMALL_TO_ONE, _ADDITIONS = _Plan(SMALL_PATCHES, of_pairs=False), _Plan(ADDITIONS, of_pairs=False)
_FOR_ONE_SOURCE = 0.8
_WIDEST = 32
MOST_TARGETS = 12
"""How many targets pairs are searched for, the most promising ones."""
_STEPS = 250
"""About how many gradient steps a search takes; of one that takes more, a fifth is always said to be left."""


def _target(strength: Strength, trigger: Patch | Addition, success: float) -> Target:
    return Target(
        target=strength.aim.target,
        success=success,
        sources=strength.aim.sources,
        trigger=trigger.to("cpu"),
        variants=tuple(each.to("cpu") for each in strength.triggers),
    )
