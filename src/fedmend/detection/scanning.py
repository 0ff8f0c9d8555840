"""Scanning: a case and one or several detectors to one report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, is_dataclass, replace
from datetime import UTC, datetime

import torch
from torch import nn

from fedmend.detection.base import Case, Detector, Finding, Need
from fedmend.detection.case_checks import check_case, check_logits, unchanged
from fedmend.detection.decision import case_warnings, combine
from fedmend.detection.differential import Differential
from fedmend.detection.finding_checks import check_finding
from fedmend.detection.mistakes import Doubt, doubt
from fedmend.detection.same_model import refuse_same_logits, refuse_same_weights
from fedmend.detection.scan_report import Examples, ScanReport
from fedmend.errors import ConfigError
from fedmend.inference import frozen, model_failures_named
from fedmend.pixels import to_uint8
from fedmend.progress import Progress, silent
from fedmend.seeds import generator, unpredictable_seed
from fedmend.user_code import failures_named, is_users, name_of
from fedmend.version_info import versions

_SHOWN, _TARGETS_SHOWN = 8, 4


def scan(
    case: Case,
    detectors: Detector | Sequence[Detector] | None = None,
    *,
    seed: int | None = None,
    progress: Progress = silent,
) -> ScanReport:
    """Look for a backdoor with one detector or several.

    Before any search, the models' accuracy on the images is checked for configuration mistakes. One that can be named,
    and a model hardly better than chance, end the scan as inconclusive; with a lesser sign of one, no verdict is clean.

    Args:
        case: the suspect, and as much of a clean reference, clean images and their labels as the detectors need. With
            images: at least 10 of two classes or more; from 8 of a class on, :class:`Differential` also looks for
            backdoors of that class alone. Without labels, the reference's predictions stand in, and a poor reference
            can't be noticed.
        detectors: by default :class:`Differential`. Their order changes nothing but the order of the findings.
        seed: where all randomness comes from; by default drawn anew, since a model can be trained to withstand the
            search of a known seed. The report names it.
        progress: see ``fedmend.progress``.

    Raises:
        ConfigError: a detector needs what the case lacks, or there is no detector.
        DataError: the images or labels can't be used.
        ModelError: the models differ in device, precision or classes, return NaN, or are the same.
    """
    if detectors is None:
        detectors = (Differential(),)
    chosen = tuple(detectors) if isinstance(detectors, Sequence) else (detectors,)
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
        searching = () if doubted is not None and doubted.stops else chosen
        findings = _with_names_of_their_own(
            [
                *(_found(detector, case, generator(seed, "scan"), progress) for detector in searching),
                *([] if doubted is None else [doubted.finding]),
            ]
        )
        examples = tuple(_examples(findings, case))
    verdict, reason = combine(findings)
    labelled = case.labels is not None
    reference_accuracy = _accuracy(case, case.reference) if labelled else None
    classes = 0 if case.images is None else case.suspect_logits.shape[1]
    count = 0 if case.images is None else len(case.images)
    warnings = tuple(case_warnings(count, classes, reference_accuracy, labelled)) if count else ()
    if doubted is not None and verdict == "backdoored":
        warnings += (doubted.finding.reason,)
    return ScanReport(
        verdict=verdict,
        reason=reason,
        findings=findings,
        suspect_accuracy=_accuracy(case, case.suspect) if labelled else None,
        reference_accuracy=reference_accuracy,
        num_images=count,
        class_names=case.class_names or tuple(str(index) for index in range(classes)),
        seed=seed,
        device=str(case.device),
        versions=versions(),
        seconds=time.perf_counter() - started,
        examples=examples,
        warnings=warnings,
        date=date,
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
    missing = detector.needs & _missing(case)
    if not missing:
        return
    from fedmend.detection import DETECTORS  # the table holds what this module is for

    enough = [name for name, make in DETECTORS.items() if not missing & make().needs]
    wanted = " and ".join(need.value for need in Need if need in missing)
    raise ConfigError(
        f"the detector {name_of(detector)} needs {wanted}, and none was given; give it, or scan with a detector that "
        f"can do without, such as {', '.join(enough)}"
    )


def _missing(case: Case) -> set[Need]:
    has = {Need.REFERENCE: case.reference, Need.IMAGES: case.images, Need.LABELS: case.labels}
    return {need for need, given in has.items() if given is None}


def _found(detector: Detector, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
    """The detector's finding, with its time and settings where it left them out."""
    started = time.perf_counter()
    finding = _asked(detector, case, rng, progress) if is_users(detector) else detector(case, rng, progress)
    if not finding.seconds:
        finding = replace(finding, seconds=time.perf_counter() - started)
    if not finding.settings and is_dataclass(detector) and not isinstance(detector, type):
        finding = replace(finding, settings=asdict(detector))
    return finding


def _asked(detector: Detector, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
    """The finding of a user's own detector, which may fail, return anything, and change what it is shown."""
    name = name_of(detector)
    undeclared = _missing(case) - detector.needs
    try:
        with unchanged(case, f"the detector {name}"), failures_named("detector", detector):
            finding = detector(case, rng, progress)
    except ConfigError as error:
        if not undeclared or "NoneType" not in str(error.__cause__):
            raise
        lacks = " and ".join(f"{need.value} (Need.{need.name})" for need in Need if need in undeclared)
        raise ConfigError(
            f"{error}. The case lacks {lacks}; what a detector can't do without belongs in its needs"
        ) from error.__cause__
    named = None if case.class_names is None else len(case.class_names)
    check_finding(finding, name, named if case.images is None else case.suspect_logits.shape[1])
    return finding


def _with_names_of_their_own(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings, numbered where several have the same name, as of one method with two settings."""
    total, seen, named = Counter(finding.detector for finding in findings), Counter[str](), []
    for finding in findings:
        seen[finding.detector] += 1
        if total[finding.detector] > 1:
            finding = replace(finding, detector=f"{finding.detector} ({seen[finding.detector]})")
        named.append(finding)
    return tuple(named)


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
