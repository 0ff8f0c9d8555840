"""The gate: what every repaired model must pass before it is released."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from pydantic import Field, SkipValidation
from torch import Tensor, nn

from fedmend.checked_settings import Count, Fraction, settings
from fedmend.data import stratified
from fedmend.detection import Case, Detector, Differential, ScanReport, Target, scan
from fedmend.detection.base import Verdict
from fedmend.evaluation import accuracy
from fedmend.inference import batch_size_for, evaluating, pixels_for, predict
from fedmend.progress import Progress, silent
from fedmend.repairs.repair_report import TargetCheck
from fedmend.repairs.target_checks import checks_on_all_images
from fedmend.seeds import derive_seed, generator


@settings
class Gate:
    """What a repair may cost and what it must achieve.

    A model passes if its accuracy held, a new scan finds it clean, and no found trigger still works. An inconclusive
    new scan does not pass; where none is possible, or it overlooks what was found, the outcome is "unverified".

    Attributes:
        max_accuracy_drop: the largest drop of the clean accuracy, as a fraction, plus one standard error: on a few
            hundred images a one-point drop is noise.
        max_trigger_success: a found trigger must work on less than this fraction of the images, beyond what it does in
            the clean reference where that was tried.
        detector: what scans again; by default :class:`~fedmend.detection.Differential`.

    Raises:
        ConfigError: a setting is out of range.
    """

    max_accuracy_drop: Fraction = 0.01
    max_trigger_success: Fraction = 0.5
    detector: Annotated[Detector, SkipValidation] = Differential()


@settings
class HoldOutGate(Gate):
    """A gate that also divides the images, and lets a repair try again.

    Attributes:
        held_out_fraction: of the images, in (0, 1): kept from the repair, to judge it by.
        max_passes: how often the repair may be tried, each time with what the last new scan found.

    Raises:
        ConfigError: a setting is out of range.
    """

    held_out_fraction: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.5
    max_passes: Count = 3


@dataclass(frozen=True)
class Evidence:
    """What the gate judges. Fractions are in [0, 1].

    Attributes:
        accuracy_before, accuracy_after: clean accuracy of the suspect and of the candidate.
        accuracy_error: standard error of the fall.
        accuracy_reference: clean accuracy of the reference, on the same images; None without one.
        num_judged: images that these were measured on; 0: clients reported them.
        num_heldout: how many of them had no part in the repair.
        verdict_after: of a new scan; None without one.
        overlooked: why that scan didn't search for what had been found, see :func:`overlooked`; empty if it did.
        target_checks: whether found triggers still work.
        flaw: why the candidate is of no use as a model; None if it is.
    """

    accuracy_before: float
    accuracy_after: float
    accuracy_error: float = 0.0
    accuracy_reference: float | None = None
    num_judged: int = 0
    num_heldout: int = 0
    verdict_after: Verdict | None = None
    overlooked: str = ""
    target_checks: tuple[TargetCheck, ...] = ()
    flaw: str | None = None

    @property
    def finite(self) -> bool:
        """Whether every figure is a finite number."""
        successes = [
            each
            for check in self.target_checks
            for each in (check.success_before, check.success_after, check.excess)
        ]
        figures = (self.accuracy_before, self.accuracy_after, self.accuracy_error, *successes)
        return all(math.isfinite(figure) for figure in figures)


def measure(
    models: tuple[nn.Module, nn.Module],
    images: Tensor,
    labels: Tensor,
    targets: Sequence[Target] = (),
    reference: nn.Module | None = None,
) -> Evidence:
    """Compare the suspect and the candidate on held-out images, without a new scan.

    Args:
        models: the two, in this order.
        images: uint8 or float in [0, 1], (N, C, H, W). labels: int64 (N,).
        targets: what to check, variants included; those without a trigger, or without an image of their sources, are
            left out.
        reference: its accuracy is measured, and what the triggers do in it.
    """
    flaw = flaw_of(models[1], images)
    if flaw is not None:
        before = accuracy(models[0], images, labels)
        return Evidence(before, math.nan, num_judged=len(images), num_heldout=len(images), flaw=flaw)
    return Evidence(
        accuracy_before=accuracy(models[0], images, labels),
        accuracy_after=accuracy(models[1], images, labels),
        accuracy_error=error_of_drop(models, images, labels),
        accuracy_reference=None if reference is None else accuracy(reference, images, labels),
        num_judged=len(images),
        num_heldout=len(images),
        target_checks=checks_on_all_images(models, images, labels, targets, reference),
    )


@torch.no_grad()
def flaw_of(model: nn.Module, images: Tensor) -> str | None:
    """Why a repaired model is of no use, whatever else it does; None if it may be.

    Args:
        images: uint8 or float in [0, 1], (N, C, H, W), for the model to classify.
    """
    if not all(bool(value.isfinite().all()) for value in model.parameters()):
        return "the repaired model has weights that are NaN or infinite"
    with evaluating(model):
        for batch in images.split(batch_size_for(images)):
            if not bool(model(pixels_for(model, batch)).isfinite().all()):
                return "the repaired model returns NaN or infinite logits on clean images"
    return None


def error_of_drop(models: tuple[nn.Module, nn.Module], images: Tensor, labels: Tensor) -> float:
    """Standard error of the fall of the accuracy from the first model to the second.

    Only images on which the models differ contribute.
    """
    right = [(predict(model, images).cpu() == labels.cpu()).double() for model in models]
    spread = float((right[0] - right[1]).std(correction=0))
    return spread / math.sqrt(len(labels))


def scan_again(
    gate: Gate, case: Case, count: int, number_and_seed: tuple[int, int], progress: Progress = silent
) -> ScanReport:
    """Scan a model with the gate's detector, on some of the case's images, as many of each class as possible.

    Args:
        case: the model as its suspect, with images and labels that the repair may use.
        count: images at most.
        number_and_seed: the scan's number in the repair, from 0, and the repair's seed. Each scan draws its own images
            and seed.
    """
    assert case.images is not None
    assert case.labels is not None
    number, seed = number_and_seed
    count = min(count, len(case.images))
    chosen = stratified(_Labels(case.labels), count, generator(seed, "scan", number))
    detector: Any = gate.detector
    if hasattr(
        detector, "control"
    ):  # a control can only turn "backdoored" into "inconclusive"; neither passes
        detector = replace(detector, control=False)
    again = replace(case, images=case.images[chosen], labels=case.labels[chosen])
    return scan(again, detector, seed=derive_seed(seed, "scan", number), progress=progress)


def overlooked(report: ScanReport, found: Sequence[Target]) -> str:
    """Why a scan searched for no backdoor of a single source class, where such a one was found; empty otherwise."""
    pairs = [row for each in report.findings for row in each.coverage if row.family.endswith("one-to-one")]
    if any(row.searched for row in pairs) or not any(target.sources for target in found):
        return ""
    return pairs[0].why_not if pairs else ""


@dataclass(frozen=True, eq=False)
class _Labels:
    """Labels to draw images by."""

    labels: Tensor

    @property
    def num_classes(self) -> int:
        return int(self.labels.max()) + 1
