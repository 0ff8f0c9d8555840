"""Running detectors on a checked case: a user's own may fail, return anything, and change what it is shown."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass, replace

import torch

from fedmend.detection.base import Case, Detector, Finding, Need
from fedmend.detection.case_checks import unchanged
from fedmend.detection.choosing import DetectorChoice, LeftOut
from fedmend.detection.finding_checks import check_finding
from fedmend.errors import ConfigError, ModelError
from fedmend.progress import Progress
from fedmend.seeds import generator
from fedmend.user_code import failures_named, is_users, name_of


def run_detectors(
    detectors: Sequence[Detector] | DetectorChoice, case: Case, seed: int, progress: Progress
) -> tuple[list[Finding], tuple[LeftOut, ...]]:
    """Run several detectors, each with the same seed.

    Args:
        detectors: of a :class:`DetectorChoice`, findings have the names there, and one that can't judge the model is
            left out.
        case: checked.
        seed: see :func:`fedmend.detection.scan`.
        progress: see ``fedmend.progress``.

    Returns:
        Their findings, and the detectors that were left out.

    Raises:
        ModelError: one of them can't judge the model; of a choice, none can.
        ConfigError: see :func:`run_detector`.
    """
    if not isinstance(detectors, DetectorChoice):
        return [run_detector(each, case, generator(seed, "scan"), progress) for each in detectors], ()
    findings, left_out, failures = list[Finding](), list(detectors.left_out), list[ModelError]()
    judged = False  # the model; that its images are clean says nothing of it
    for name, detector in detectors.detectors.items():
        try:
            finding = run_detector(detector, case, generator(seed, "scan"), progress)
        except ModelError as error:
            failures.append(error)
            left_out.append(LeftOut(name, str(error)))
        else:
            findings.append(replace(finding, detector=name))
            judged |= finding.verdict == "backdoored" or not getattr(detector, "judges_images", False)
    if failures and not judged:
        raise failures[0]
    return findings, tuple(left_out)


def run_detector(detector: Detector, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
    """The detector's finding, with its time and settings where it left them out.

    Raises:
        ConfigError: a user's own failed, changed the case, or returned something that can't be used.
    """
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
    undeclared = case.lacks - detector.needs
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


def named_apart(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings, numbered where several have the same name, as of one method with two settings."""
    total, seen, named = Counter(finding.detector for finding in findings), Counter[str](), []
    for finding in findings:
        seen[finding.detector] += 1
        if total[finding.detector] > 1:
            finding = replace(finding, detector=f"{finding.detector} ({seen[finding.detector]})")
        named.append(finding)
    return tuple(named)
