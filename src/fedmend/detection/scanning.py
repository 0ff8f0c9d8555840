"""Scanning: a case and one or several detectors to one report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import torch
from torch import nn

from fedmend.detection.agreement import compare_methods
from fedmend.detection.base import Case, Detector, Finding, Need, in_words
from fedmend.detection.case_checks import check_case, check_logits
from fedmend.detection.choosing import DetectorChoice, all_detectors, default_detectors
from fedmend.detection.decision import WITHOUT_REFERENCE, case_warnings, combine
from fedmend.detection.mistakes import Doubt, doubt
from fedmend.detection.running import named_apart, run_detectors
from fedmend.detection.same_model import refuse_same_logits, refuse_same_weights
from fedmend.detection.scan_report import Examples, ScanReport
from fedmend.errors import ConfigError
from fedmend.inference import frozen, model_failures_named
from fedmend.pixels import to_uint8
from fedmend.progress import Progress, silent
from fedmend.seeds import unpredictable_seed
from fedmend.user_code import name_of
from fedmend.version_info import versions

_SHOWN, _TARGETS_SHOWN = 8, 4


def scan(
    case: Case,
    detectors: Detector | Sequence[Detector] | DetectorChoice | None = None,
    *,
    seed: int | None = None,
    progress: Progress = silent,
) -> ScanReport:
    """Look for a backdoor with one detector or several.

    Before any search, the models' accuracy on the images is checked for configuration mistakes. One that can be named,
    and a model hardly better than chance, end the scan as inconclusive; with a lesser sign of one, no verdict is clean.

    Scans in several threads of one process must take turns: a scan freezes its models until it ends, and settings and
    random generators that all threads share are put back to what they were when it began.

    Args:
        case: the suspect, and as much of a clean reference, clean images and their labels as the detectors need. With
            images: at least 10 of two classes or more; from 8 of a class on, :class:`Differential` also looks for
            backdoors of that class alone. Without labels, the reference's predictions stand in, and a poor reference
            can't be noticed.
        detectors: by default :class:`Differential`, or without a reference :class:`ArtificialBrainStimulation` and
            :class:`MaximumMargin`. Their order changes nothing but the order of the findings. With
            :func:`all_detectors`, those that can't judge the model are left out, and the report names them.
        seed: where all randomness comes from; by default drawn anew, since a model can be trained to withstand the
            search of a known seed. The report names it.
        progress: see ``fedmend.progress``.

    Raises:
        ConfigError: a detector needs what the case lacks, or there is no detector.
        DataError: the images or labels can't be used.
        ModelError: the models differ in device, precision or classes, return NaN, or are the same.
    """
    if detectors is None:
        detectors = default_detectors(case.lacks)
    if not isinstance(detectors, Sequence | DetectorChoice):
        detectors = (detectors,)
    chosen = tuple(detectors.detectors.values() if isinstance(detectors, DetectorChoice) else detectors)
    if not chosen:
        raise ConfigError("a scan needs at least one detector; got none")
    for detector in chosen:
        _check_detector(detector)
        _check_needs(detector, case)
    if seed is None:
        seed = unpredictable_seed()
    started, date = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    case = replace(case)  # without what it computed before, maybe of models that have changed since
    models = [case.suspect] if case.reference is None else [case.suspect, case.reference]
    check_case(case)
    with frozen(*models), model_failures_named(*models):
        doubted = _doubted(case)
        searched, left_out = list[Finding](), getattr(detectors, "left_out", ())
        if doubted is None or not doubted.stops:
            searched, left_out = run_detectors(detectors, case, seed, progress)
        findings = named_apart([*searched, *([] if doubted is None else [doubted.finding])])
        examples = tuple(_examples(findings, case))
    verdict, reason = combine(findings)
    labelled = case.labels is not None
    reference_accuracy = _accuracy(case, case.reference) if labelled else None
    classes = 0 if case.images is None else case.suspect_logits.shape[1]
    count = 0 if case.images is None else len(case.images)
    warnings = tuple(case_warnings(count, classes, reference_accuracy, labelled)) if count else ()
    if doubted is not None and verdict == "backdoored":
        warnings += (doubted.finding.reason,)
    class_names = case.class_names or tuple(str(index) for index in range(classes))
    return ScanReport(
        verdict=verdict,
        reason=reason,
        findings=findings,
        suspect_accuracy=_accuracy(case, case.suspect) if labelled else None,
        reference_accuracy=reference_accuracy,
        num_images=count,
        class_names=class_names,
        seed=seed,
        device=str(case.device),
        versions=versions(),
        seconds=time.perf_counter() - started,
        examples=examples,
        warnings=warnings,
        date=date,
        scope="" if case.reference is not None else WITHOUT_REFERENCE,
        agreement=compare_methods(findings, class_names),
        left_out=left_out,
    )


def _doubted(case: Case) -> Doubt | None:
    refuse_same_weights(case)
    if case.images is None:
        return None
    check_logits(case)
    refuse_same_logits(case)
    return doubt(case)


def _check_detector(detector: object) -> None:
    needs = getattr(detector, "needs", None)
    if isinstance(detector, type) or not callable(detector) or not _are_needs(needs):
        raise ConfigError(
            "expected a detector: an object with needs, a frozenset of Need, such as frozenset({Need.IMAGES}), that "
            f"can be called with (case, rng, progress); got {detector!r}"
            + ("" if needs is None else f" with needs {needs!r}")
        )


def _are_needs(needs: object) -> bool:
    return isinstance(needs, frozenset) and all(isinstance(need, Need) for need in needs)


def _check_needs(detector: Detector, case: Case) -> None:
    missing = detector.needs & case.lacks
    if not missing:
        return
    enough = all_detectors(missing).detectors
    raise ConfigError(
        f"the detector {name_of(detector)} needs {in_words(missing)}, and none was given; give it, or scan with a "
        f"detector that can do without, such as {', '.join(enough)}"
    )


def _examples(findings: Sequence[Finding], case: Case) -> Iterator[Examples]:
    """For each finding's first targets with a trigger, up to eight images, those of its source classes first.

    The classes take turns.
    """
    if case.images is None:
        return
    for finding in findings:
        numbers = [number for number, target in enumerate(finding.targets) if target.trigger is not None]
        for number in numbers[:_TARGETS_SHOWN]:
            yield _examples_of(finding, number, case)


def _examples_of(finding: Finding, number: int, case: Case) -> Examples:
    target = finding.targets[number]
    assert target.trigger is not None
    own = case.truth != target.target
    if target.sources:
        own = torch.isin(case.truth, torch.tensor(target.sources, device=case.truth.device))
    turns = _in_turn(case.truth)
    shown = torch.cat([turns[own[turns]], turns[~own[turns]]])[:_SHOWN]
    stamped = target.trigger.to(case.device).apply(case.pixels[shown]).to(case.pixels.dtype)
    return Examples(
        detector=finding.detector,
        target=target.target,
        images=to_uint8(case.pixels[shown]).cpu(),
        labels=None if case.labels is None else case.truth[shown].cpu(),
        suspect_clean=case.suspect_logits.argmax(1)[shown].cpu(),
        suspect_stamped=_predictions(case.suspect, stamped),
        reference_stamped=None if case.reference is None else _predictions(case.reference, stamped),
        number=number,
    )


def _in_turn(classes: torch.Tensor) -> torch.Tensor:
    """An order of images, (N,), in which their classes, (N,), take turns: the first of each, then the second."""
    order = classes.argsort(stable=True)
    ordered = classes[order]
    turns = torch.empty_like(order)
    turns[order] = torch.arange(len(order), device=order.device) - torch.searchsorted(ordered, ordered)
    return turns.argsort(stable=True)


@torch.no_grad()
def _predictions(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    predictions: torch.Tensor = model(pixels.clone()).argmax(1).cpu()  # a model may work in place
    return predictions


def _accuracy(case: Case, model: nn.Module | None) -> float | None:
    if model is None:
        return None
    logits = case.suspect_logits if model is case.suspect else case.reference_logits
    return int((logits.argmax(1) == case.truth).sum()) / len(case.truth)
