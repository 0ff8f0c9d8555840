"""Repairs a suspect by what a scan or the clients found, and releases the model only if it passes the gate."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from fedmend.detection import Case, Contrastive, Finding, ScanReport
from fedmend.errors import DataError
from fedmend.progress import Progress, silent
from fedmend.repairs.base import Candidate, Context, Participants, Repair
from fedmend.repairs.federated_pruning import FederatedPruning
from fedmend.repairs.gate import Evidence, Gate, judge, measure, scan_again
from fedmend.repairs.repair_report import Outcome, RepairReport
from fedmend.repairs.unlearning import Unlearning
from fedmend.seeds import derive_seed, generator

FIVE_EPOCHS = Unlearning(epochs=5)
"""The default of :func:`repair`; the paper trains for one epoch."""
VOTING_GATE = Gate(max_accuracy_drop=0.05, detector=Contrastive())
"""The default of :func:`repair_by_votes`, which needs only a verdict, not the whole trigger."""

MIN_IMAGES = 20
SEARCHES = 2
MIN_SCAN_IMAGES = 10


def repair(
    case: Case,
    report: ScanReport,
    method: Repair = FIVE_EPOCHS,
    gate: Gate = Gate(),  # noqa: B008 - frozen
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[nn.Module | None, RepairReport]:
    """Remove the backdoor, rescan, and repeat until a scan finds none.

    The contrastive paper unlearns the one recovered trigger (2.6). The smallest working trigger is only part of the
    planted one; the rest can still activate the backdoor. The method therefore also gets the triggers, with all
    variants, of two more searches by the gate's detector on the repair's own images, and of each rescan. Each pass
    starts again from the suspect, so accuracy loss doesn't accumulate.

    Args:
        case: the suspect with the server's clean images, N at least 20, their labels, and whatever else the gate's
            detector needs. The held-out images may include the scan's, which biases trigger success upward.
        report: the scan of the suspect.
        method: by default :class:`Unlearning` for five epochs; the paper trains for one.
        gate: what the repaired model must pass.
        seed: of the choice of held-out images, the scans and the method.
        progress: see ``fedmend.progress``.

    Returns:
        The repaired model, or None if the outcome isn't "repaired"; and the report.

    Raises:
        DataError: too few images, or no labels. ConfigError: the method needs something missing, or training diverged.
    """
    job = _Job(method, gate, seed)
    own, held_out = _split(case, gate.held_out_fraction, seed)
    # Without the first scan's variants: the searches find them on the repair's own images.
    findings = [_without_variants(finding) for finding in _incriminating(report)]
    targets = [target for finding in findings for target in finding.targets if target.trigger is not None]
    if report.verdict != "backdoored" or not targets:
        return None, job.report(_not_tried(report), measure((case.suspect, case.suspect), *held_out))

    numbers = count()

    def search(model: nn.Module) -> ScanReport:
        scanned = replace(own, suspect=model)
        return scan_again(gate, scanned, report.num_images, (next(numbers), seed), progress)

    for _ in range(SEARCHES):
        findings += _incriminating(search(case.suspect))
    for number in range(1, gate.max_passes + 1):
        context = Context(
            own.reference,
            own.images,
            own.labels,
            attempt=number,
            seed=derive_seed(seed, "unlearn", number),
            progress=progress,
        )
        candidate = method(case.suspect, findings, context)
        scanned = search(candidate.model)
        if scanned.verdict == "clean":
            break
        findings += _incriminating(scanned)
    evidence = measure((case.suspect, candidate.model), *held_out, (*targets, *candidate.targets))
    return job.judged(candidate, replace(evidence, verdict_after=scanned.verdict))


def repair_by_votes(
    case: Case,
    participants: Participants,
    method: FederatedPruning = FederatedPruning(),  # noqa: B008 - frozen
    gate: Gate = VOTING_GATE,
    progress: Progress = silent,
) -> tuple[nn.Module | None, RepairReport, dict[str, nn.Module]]:
    """Let a federation's clients vote on what to prune, and fine-tune; no prior scan is needed.

    Args:
        case: the suspect. With the server's own images and labels, accuracies and trigger success are measured on
            them; without, the clients report accuracies. The same images decide how much to prune and judge the
            result. With a reference as well, the repaired model is scanned.
        participants: the federation.
        method: how to vote, prune and fine-tune.
        gate: what the repaired model must pass; ``held_out_fraction`` and ``max_passes`` have no effect.
        progress: see ``fedmend.progress``.

    Returns:
        The repaired model, or None if the outcome isn't "repaired"; the report; and the model after each stage, for
        research only: the gate has not judged them.

    Raises:
        DataError: no client sent a valid reply, or images without labels. ModelError: the model has no convolution.
    """
    job = _Job(method, gate, participants.seed)
    if (case.images is None) != (case.labels is None):
        raise DataError("a repair by votes needs validation images with labels, or neither")
    context = Context(
        case.reference, case.images, case.labels, participants, seed=participants.seed, progress=progress
    )
    candidate = method(case.suspect, (), context)
    if case.images is None or case.labels is None:
        assert candidate.reported is not None
        evidence = Evidence(*candidate.reported)
    else:
        models = (case.suspect, candidate.model)
        evidence = measure(models, case.images, case.labels, candidate.targets)
    if case.images is not None and case.reference is not None:
        size = max(MIN_SCAN_IMAGES, 3 * case.suspect_logits.shape[1])
        repaired = Case(candidate.model, case.reference, case.images, case.labels, case.class_names)
        again = scan_again(gate, repaired, size, (0, participants.seed), progress)
        evidence = replace(evidence, verdict_after=again.verdict)
    return *job.judged(candidate, evidence), candidate.stages


@dataclass(frozen=True)
class _Job:
    """A repair, from start to report."""

    method: Repair
    gate: Gate
    seed: int
    started: float = field(default_factory=time.perf_counter)

    def judged(self, candidate: Candidate, evidence: Evidence) -> tuple[nn.Module | None, RepairReport]:
        verdict = judge(self.gate, evidence, candidate.summary)
        return (candidate.model if verdict[0] == "repaired" else None), self.report(
            verdict, evidence, candidate
        )

    def report(
        self, verdict: tuple[Outcome, str], evidence: Evidence, candidate: Candidate | None = None
    ) -> RepairReport:
        return RepairReport(
            outcome=verdict[0],
            reason=verdict[1],
            method=type(self.method).__name__,
            settings=self._settings(),
            seconds=time.perf_counter() - self.started,
            accuracy_before=evidence.accuracy_before,
            accuracy_after=evidence.accuracy_after,
            accuracy_error=evidence.accuracy_error,
            num_heldout=evidence.num_heldout,
            max_accuracy_drop=self.gate.max_accuracy_drop,
            verdict_after=evidence.verdict_after,
            target_checks=evidence.target_checks,
            details=None if candidate is None else candidate.details,
            warnings=() if candidate is None else candidate.warnings,
        )

    def _settings(self) -> dict[str, Any]:
        """The method's and the gate's settings, and the seed, as JSON has them."""
        named: dict[str, Any] = {}
        if is_dataclass(self.method) and not isinstance(self.method, type):
            named = asdict(self.method)
        gate = vars(self.gate) | {"detector": type(self.gate.detector).__name__}
        plain: dict[str, Any] = json.loads(json.dumps(named | {"gate": gate, "seed": self.seed}, default=str))
        return plain


def _split(case: Case, fraction: float, seed: int) -> tuple[Case, tuple[Tensor, Tensor]]:
    """The case with the repair's own images, and the held-out images and labels."""
    images, labels = case.images, case.labels
    if images is None or labels is None:
        raise DataError("a repair needs the server's own clean images with labels; the case has none")
    if len(images) < MIN_IMAGES or labels.shape != (len(images),):
        raise DataError(
            f"a repair needs at least {MIN_IMAGES} images with one label per image, to train on and to check with; "
            f"got {len(images)} images and {tuple(labels.shape)} labels"
        )
    order = torch.randperm(len(images), generator=generator(seed, "held out"))
    held_out, own = order.tensor_split([max(1, round(fraction * len(images)))])
    return replace(case, images=images[own], labels=labels[own]), (images[held_out], labels[held_out])


def _incriminating(report: ScanReport) -> list[Finding]:
    return [finding for finding in report.findings if finding.verdict != "clean"]


def _without_variants(finding: Finding) -> Finding:
    return replace(finding, targets=tuple(replace(target, variants=()) for target in finding.targets))


def _not_tried(report: ScanReport) -> tuple[Outcome, str]:
    if report.verdict == "clean":
        return "not needed", "The scan found no backdoor, so nothing was changed."
    if report.verdict == "inconclusive":
        return "undecided", "The scan was inconclusive, so nothing was changed."
    return "undecided", (
        "The scan found a backdoor but recovered no trigger to unlearn, so nothing was changed. Scan with a detector "
        "that recovers one, such as contrastive."
    )
