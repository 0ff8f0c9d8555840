"""fedmend's own detector: for each class, the trigger that works in the suspect and not in the reference (ours)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Literal

import torch

from fedmend.checked_settings import Flag, settings
from fedmend.detection import difference_rule
from fedmend.detection.base import Case, Finding, Need, Target
from fedmend.detection.calibration import p_value
from fedmend.detection.comparing import Comparison, compare
from fedmend.detection.covered_families import coverage, warnings
from fedmend.detection.difference_rule import DifferenceLimits, Evidence
from fedmend.detection.model_pair import accelerated_pair
from fedmend.detection.search.aimed_search import AimedSearch, Strength, Task
from fedmend.detection.search.aims import Aim, all_to_one, pairs
from fedmend.detection.search.direction import Direction
from fedmend.detection.search.families import ADDITIONS, PAIR_PATCHES, PATCHES, Family
from fedmend.detection.search.gradients import why_blind
from fedmend.detection.search.recovering import recover, smallest
from fedmend.progress import Progress, silent
from fedmend.seeds import generator
from fedmend.triggers import Addition, Patch

Effort = Literal["quick", "standard", "exhaustive"]

FEWEST_PER_SOURCE = 8
"""Images of a source class below which its pairs aren't searched: fractions of fewer images are too coarse."""
_STAGE = "trigger inversion"


@settings
class Differential:
    """Search every class for a small trigger that works in the suspect alone, and compare the classes.

    For each class, and with enough images for each pair of classes, candidates are optimised for the cross-entropy of
    the target in the suspect plus that of the unstamped prediction in the reference, while their size shrinks. A
    backdoor's target survives more halvings of the size than any other class, and than any class when the models' roles
    are swapped. That lead is what the verdict rests on; see :mod:`fedmend.detection.difference_rule`.

    Attributes:
        effort: "quick": patches for each class. "standard": also patches for pairs of classes, and additive
            perturbations; it ends with the first family that stands out. "exhaustive": all families, with three times
            the candidates, and additive perturbations for pairs.
        limits: of the decision rule.
        search: the search's settings.
        half: whether the search may use half precision where that is faster.

    Raises:
        ConfigError: a setting is out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.REFERENCE, Need.IMAGES})

    effort: Effort = "standard"
    limits: DifferenceLimits = DifferenceLimits()
    search: AimedSearch = AimedSearch()
    half: Flag = True

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        """Search, compare, decide.

        Args:
            case: with a reference and images of two classes or more.
            rng: on the CPU. Each search's generator is derived from its initial seed.
            progress: called as ``progress("trigger inversion", step, steps)``; the number of steps is an estimate.

        Raises:
            ModelError: the loss became NaN or infinite.
        """
        with accelerated_pair(case, "logits", half=self.half, gradient=False) as pair:
            forward, backward = Direction.of(pair), Direction.of(pair.swapped())
            forgotten = difference_rule.forgotten_classes(forward.kept, case.labels, forward.classes)
            scan = _Scan(self, forward, backward, forgotten, rng.initial_seed(), progress)
            evidence = scan.evidence(case)
            targets = scan.targets(evidence)
        verdict, reason = difference_rule.decide(evidence, self.limits)
        best = max((self.limits.excess(each) for each in evidence.comparisons), default=float("nan"))
        covered = coverage(evidence, self.effort)
        return Finding(
            detector="differential",
            verdict=verdict,
            reason=reason,
            suspicious=best,
            limit=1.0,
            measures=difference_rule.measures(evidence, self.limits),
            targets=targets,
            warnings=warnings(covered),
            notes=pair.notes,
            settings=asdict(self),
            stop_reason=scan.stop_reason,
            p_value=p_value(best),
            coverage=covered,
        )


@dataclass(frozen=True)
class _Plan:
    """One family to search, with aims."""

    family: Family
    of_pairs: bool

    @property
    def name(self) -> str:
        return f"{self.family.name}, {'one-to-one' if self.of_pairs else 'all-to-one'}"


@dataclass(eq=False)
class _Scan:
    """One scan at work."""

    detector: Differential
    forward: Direction
    backward: Direction
    forgotten: frozenset[int]
    seed: int
    progress: Progress
    stop_reason: str = ""
    done: int = 0

    def evidence(self, case: Case) -> Evidence:
        blind = self._blind()
        comparisons: list[Comparison] = []
        together = None
        if blind is None:
            for plan in self._plans():
                comparisons.append(self._narrowed(self._compared(plan)))
                if self._found(comparisons) and self.detector.effort != "exhaustive":
                    self.stop_reason = f"a trigger of the family {plan.name} stands out"
                    break
            if not self._found(comparisons) and self.forward.classes > 2:
                together = self._together()
        self.stop_reason = self.stop_reason or "every family was searched"
        return Evidence(
            comparisons=tuple(comparisons),
            together=together,
            blind=blind,
            reference_accuracy=difference_rule.accuracy_of(case.reference_logits, case.labels),
            suspect_accuracy=difference_rule.accuracy_of(case.suspect_logits, case.labels),
            class_names=tuple(case.class_name(each) for each in range(self.forward.classes)),
            not_searched=self._not_searched(),
            forgotten=self.forgotten,
        )

    def targets(self, evidence: Evidence) -> tuple[Target, ...]:
        """The aims that stand out, their triggers recovered; if none does, the one that comes closest."""
        found = [each for each in evidence.comparisons if self.detector.limits.found(each)]
        if found:
            leaders = [strength for each in found for strength in each.strengths[: each.leaders]]
            return tuple(self._recovered(strength) for strength in leaders)
        closest = max(evidence.comparisons, key=self.detector.limits.excess, default=None)
        nearest = closest.strengths[:1] if closest is not None else ()
        return tuple(_target(strength, *smallest(strength)) for strength in nearest)

    def _recovered(self, strength: Strength) -> Target:
        rng = generator(self.seed, "recovery", strength.aim.target, *strength.aim.sources)
        return _target(strength, *recover(Task(self.forward, PATCHES, rng, self._step), strength))

    def _blind(self) -> str | None:
        for name, direction in (("suspect", self.forward), ("reference", self.backward)):
            reason = why_blind(direction, generator(self.seed, "gradient", name))
            if reason is not None:
                return f"the {name} can't be searched: {reason}"
        return None

    def _plans(self) -> Iterator[_Plan]:
        yield _Plan(PATCHES, of_pairs=False)
        if self.detector.effort == "quick":
            return
        if self._with_pairs:
            yield _PAIRS
        yield _Plan(ADDITIONS, of_pairs=False)
        if self.detector.effort == "exhaustive" and self._with_pairs:
            yield _Plan(ADDITIONS, of_pairs=True)

    def _not_searched(self) -> tuple[str, ...]:
        names = ["patch, one-to-one", "addition, all-to-one", "addition, one-to-one"]
        searched = {plan.name for plan in self._plans()}
        return tuple(name for name in names if name not in searched)

    def _sources(self, direction: Direction) -> torch.Tensor:
        counts = direction.kept.bincount(minlength=direction.classes)
        return (counts >= FEWEST_PER_SOURCE).nonzero().flatten()

    def _found(self, comparisons: list[Comparison]) -> bool:
        return any(self.detector.limits.convinced(each, self.forgotten) for each in comparisons)

    def _compared(self, plan: _Plan) -> Comparison:
        """The comparison; near the limits, the median of three."""
        first = self._once(plan, 0)
        enough, unsure = self.detector.limits.of(plan.of_pairs)
        if not unsure <= first.lead < enough + self.detector.limits.sure:
            return first
        return sorted([first, self._once(plan, 1), self._once(plan, 2)], key=lambda each: each.lead)[1]

    def _narrowed(self, found: Comparison) -> Comparison:
        """With each leading class as a pair where one source class is far ahead of the others.

        A trigger planted for one source class has larger variants that work on every class; only where a small one
        does, too, need no pair be searched.
        """
        if found.of_pairs or not self.detector.limits.found(found) or not self._with_pairs:
            return found
        strengths = list(found.strengths)
        for index, strength in enumerate(strengths[: found.leaders]):
            if any(rate >= _WORKS_ON_MANY for rate in strength.rates[_SMALL:]):
                continue
            task = self._task(_PAIRS, self.forward, strength.aim.target)
            sources = pairs(self._sources(self.forward), [strength.aim.target])
            best = self._search().refine(task, self._search().explore(task, sources))
            if len(best) > 1 and best[0].total - best[1].total >= _FAR_AHEAD:
                strengths[index] = best[0]
        return replace(found, strengths=tuple(strengths))

    @property
    def _with_pairs(self) -> bool:
        return (
            self.detector.effort != "quick"
            and len(self._sources(self.forward)) > 0
            and self.forward.classes > 2
        )

    def _once(self, plan: _Plan, number: int) -> Comparison:
        classes, search = self.forward.classes, self._search()
        enough, unsure = self.detector.limits.of(plan.of_pairs)
        strengths = self._strengths(plan, self.forward, search, number)
        if not strengths or strengths[0].total < unsure:
            return compare(plan.name, strengths, None, 1)
        swapped = self._strengths(plan, self.backward, search, number)
        found = compare(plan.name, strengths, swapped, min(_MOST_LEADERS, classes // 2))
        if found.lead >= enough or strengths[0].total - (found.swapped_total or 0.0) < enough:
            return found
        wide = min(3 * classes, _WIDEST)
        wider = self._strengths(plan, self.forward, replace(search, finalists=wide, least=wide), number)
        return compare(plan.name, wider, swapped, classes if plan.of_pairs else classes // 2)

    def _strengths(
        self, plan: _Plan, direction: Direction, search: AimedSearch, number: int
    ) -> list[Strength]:
        task = self._task(plan, direction, number)
        return search.refine(task, search.explore(task, self._aims(plan, direction)))

    def _together(self) -> Comparison:
        """The classes compared by triggers that work in both models."""
        task = self._task(_PATCHES_TO_ONE, self.forward, 0)
        search = self._search()
        explored = search.explore(task, all_to_one(self.forward.classes), together=True)
        return compare("patch, in both models", search.refine(task, explored, together=True), None, 1)

    def _search(self) -> AimedSearch:
        restarts = _EXHAUSTIVE if self.detector.effort == "exhaustive" else 1
        return replace(self.detector.search, restarts=restarts * self.detector.search.restarts)

    def _task(self, plan: _Plan, direction: Direction, number: int) -> Task:
        role = "suspect" if direction is self.forward else "reference"
        return Task(direction, plan.family, generator(self.seed, plan.name, role, number), self._step)

    def _step(self) -> None:
        self.done += 1
        self.progress(_STAGE, min(self.done, _STEPS), _STEPS)

    def _aims(self, plan: _Plan, direction: Direction) -> list[Aim]:
        everyone = list(range(direction.classes))
        if not plan.of_pairs:
            return all_to_one(direction.classes)
        targets = everyone
        if direction.classes > _MOST_TARGETS:
            task = self._task(_Plan(plan.family, of_pairs=False), direction, 0)
            explored = replace(self._search(), finalists=_MOST_TARGETS).explore(
                task, all_to_one(direction.classes)
            )
            targets = sorted(aim.target for aim in explored.aims)
        return pairs(self._sources(direction), targets)


_PATCHES_TO_ONE, _PAIRS = _Plan(PATCHES, of_pairs=False), _Plan(PAIR_PATCHES, of_pairs=True)
_WORKS_ON_MANY, _SMALL, _FAR_AHEAD = 0.9, 3, 1.25
_MOST_LEADERS, _WIDEST, _MOST_TARGETS, _EXHAUSTIVE = 3, 32, 12, 3
_STEPS = 250


def _target(strength: Strength, trigger: Patch | Addition, success: float) -> Target:
    return Target(
        target=strength.aim.target,
        success=success,
        sources=strength.aim.sources,
        trigger=trigger.to("cpu"),
        variants=tuple(each.to("cpu") for each in strength.triggers),
    )
