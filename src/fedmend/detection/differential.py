"""fedmend's own detector: for each class, the trigger that works in the suspect and not in the reference (ours)."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import ClassVar

import torch

from fedmend.checked_settings import Bytes, Flag, settings
from fedmend.detection import difference_rule, weak_reference
from fedmend.detection.base import Case, Finding, Need
from fedmend.detection.calibration import p_value
from fedmend.detection.covered_families import coverage, warnings
from fedmend.detection.difference_rule import DifferenceLimits
from fedmend.detection.differential_scan import DifferentialScan, Effort
from fedmend.detection.model_pair import accelerated_pair
from fedmend.detection.search.aimed_search import AimedSearch
from fedmend.detection.search.direction import Direction
from fedmend.detection.search.families import PATCHES
from fedmend.detection.search.memory import allowed_memory, images_at_once
from fedmend.detection.search.work import Work
from fedmend.detection.search_plan import SearchPlan, planned
from fedmend.model_cost import multiply_adds
from fedmend.progress import Progress, silent

_EXHAUSTIVE = 3


@settings
class Differential:
    """Search every class for a small trigger that works in the suspect alone, and compare the classes.

    For each class, and with enough images for each pair of classes, candidates are optimised for the cross-entropy of
    the target in the suspect plus the contrastive loss between the models, while their size shrinks. A
    backdoor's target survives more halvings of the size than any other class, and than any class when the models' roles
    are swapped. That lead is what the verdict rests on; see :mod:`fedmend.detection.difference_rule`.

    For a large model the search is cut to a number of passes, unless it is exhaustive; see
    :mod:`fedmend.detection.search_plan`.

    Attributes:
        effort: "quick": patches for each class. "standard": also patches for pairs of classes, and additive
            perturbations; it ends with the first family that stands out. "exhaustive": all families, with three times
            the candidates, and additive perturbations for pairs.
        limits: of the decision rule.
        search: the search's settings.
        half: whether the search may use half precision where that is faster.
        memory: bytes that the search may take beside models and images; None for half of what is free. Where all images
            at once would take more, they are computed in parts, and with very many classes only some are explored.

    Raises:
        ConfigError: a setting is out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.REFERENCE, Need.IMAGES})

    effort: Effort = "standard"
    limits: DifferenceLimits = DifferenceLimits()
    search: AimedSearch = AimedSearch()
    half: Flag = True
    memory: Bytes | None = None

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        """Search, compare, decide.

        Args:
            case: with a reference and images of two classes or more.
            rng: on the CPU. Each search's generator is derived from its initial seed.
            progress: called as ``progress("trigger inversion", step, steps)``; the number of steps is an estimate.

        Raises:
            ModelError: the loss became NaN or infinite.
            ConfigError: not even one image fits into the memory.
        """
        with accelerated_pair(case, "logits", half=self.half, gradient=False) as pair:
            memory = allowed_memory(self.memory, case.device)
            at_once = images_at_once([pair.suspect, pair.reference], pair.images, memory)
            work = Work()
            forward, backward = (Direction.of(each, at_once, work) for each in (pair, pair.swapped()))
            forgotten = difference_rule.forgotten_classes(forward.kept, case.labels, forward.classes)
            weak = weak_reference.accuracies_if_weak(forward.kept, backward.kept, case.labels)
            limits = self.limits if weak is None else self.limits.for_weak_reference()
            plan = self._planned(case, forward.classes, memory)
            scan = DifferentialScan(
                self.effort, limits, plan, forward, backward, forgotten, rng.initial_seed(), progress
            )
            evidence = replace(scan.evidence(case), weak_reference=weak)
            targets = scan.targets(evidence)
            scan.finish()
        verdict, reason = difference_rule.decide(evidence, limits)
        best = max((limits.excess(each) for each in evidence.comparisons), default=float("nan"))
        covered = coverage(evidence, self.effort, calibrated=not plan.limited)
        return Finding(
            detector="differential",
            verdict=verdict,
            reason=reason,
            suspicious=best,
            limit=1.0,
            measures=difference_rule.measures(evidence, limits),
            targets=targets,
            warnings=(*warnings(covered, evidence), *weak_reference.warnings(weak), *plan.warnings),
            notes=(*pair.notes, *plan.notes, *scan.notes),
            settings=asdict(self),
            stop_reason=scan.stop_reason,
            p_value=None if plan.limited else p_value(best),
            coverage=covered,
        )

    def _planned(self, case: Case, classes: int, memory: int) -> SearchPlan:
        exhaustive = self.effort == "exhaustive"
        search = (
            replace(self.search, restarts=_EXHAUSTIVE * self.search.restarts) if exhaustive else self.search
        )
        cost = 0 if exhaustive else multiply_adds(case.suspect, case.pixels[0])
        return planned(search, PATCHES, classes, cost=cost, images=case.pixels, memory=memory // 4)
