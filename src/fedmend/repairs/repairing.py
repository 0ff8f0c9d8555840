"""Repairing: a suspect and what a scan or the clients found to a model that passed the gate, or to none."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from fedmend.detection import Case, Finding, ScanReport, Target
from fedmend.detection.base import Verdict
from fedmend.errors import ConfigError, DataError
from fedmend.evaluation import accuracy
from fedmend.progress import Progress, silent
from fedmend.repairs.base import Candidate, Context, Participants, Repair
from fedmend.repairs.federated_pruning import FederatedPruning
from fedmend.repairs.gate import Evidence, Gate, judge, measure, scan_again
from fedmend.repairs.repair_report import RepairReport
from fedmend.repairs.unlearning import Unlearning
from fedmend.seeds import derive_seed, generator

FIVE_EPOCHS = Unlearning(epochs=5)
MIN_IMAGES = 20
SEARCHES = 2


def repair(
    case: Case,
    report: ScanReport,
    method: Repair = FIVE_EPOCHS,
    gate: Gate = Gate(),  # noqa: B008 - frozen
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[nn.Module | None, RepairReport]:
    """Take out the backdoor that a scan found; scan again, and go on until the scan finds none.

    The contrastive paper unlearns the one recovered trigger (2.6). The smallest that works is only a part of the
    planted one, though, and the backdoor reacts to the rest as well. So this also repairs what two searches with the
    gate's detector find on images of the repair's own, with all variants, and after a pass what the new scan finds in
    addition. Each pass starts from the suspect again, so that the harm of passes doesn't add up.

    Args:
        case: with the server's clean images, N at least 20, and their labels; and what the gate's detector needs.
        report: the scan of the case's suspect.
        method: by default :class:`Unlearning` for five epochs, where the paper has one.
        gate: what the repaired model must pass.
        seed: of the choice of held-out images, the scans and the method.
        progress: see ``fedmend.progress``.

    Returns:
        The repaired model, or None if the outcome isn't "repaired"; and the report.

    Raises:
        DataError: too few images, or no labels. ConfigError: the method lacks something, or training diverged.
    """
    started = time.perf_counter()
    own, held_out = _split(case, gate.held_out_fraction, seed)
    images, labels = held_out
    found = _incriminating(report)
    context = Context(case.reference, own.images, own.labels, progress=progress)
    settings = _plain(method, gate, seed)
    if report.verdict != "backdoored" or not _targets(found):
        return None, _untouched(case.suspect, held_out, report, settings | {"started": started}, gate)

    numbers = count()

    def search(model: nn.Module) -> ScanReport:
        return scan_again(
            gate, replace(own, suspect=model), report.num_images, next(numbers), seed, progress
        )

    # The first scan's variants are left out: the searches find them on images of the repair's own.
    findings = [_without_variants(finding) for finding in found]
    targets = _targets(findings)
    for _ in range(SEARCHES):
        findings += _incriminating(search(case.suspect))
    for number in range(1, gate.max_passes + 1):
        candidate = method(case.suspect, findings, replace(context, seed=derive_seed(seed, "unlearn", number)))
        scanned = search(candidate.model)
        if scanned.verdict == "clean":
            break
        findings += _incriminating(scanned)
    evidence = measure(case.suspect, candidate.model, images, labels, (*targets, *candidate.targets))
    evidence = replace(evidence, verdict_after=scanned.verdict)
    return _released(candidate, evidence, gate, settings, started)
