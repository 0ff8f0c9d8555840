"""Repairs a suspect by what a scan or the clients found, and releases the model only if it passes the gate."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from fedmend.data.same_images import among
from fedmend.detection import Case, Differential, Finding, Need, ScanReport, Target
from fedmend.detection.base import Verdict
from fedmend.detection.differential_scan import FEWEST_PER_SOURCE
from fedmend.errors import DataError
from fedmend.progress import Progress, silent
from fedmend.repairs.base import Candidate, Context, Participants, Repair, trigger_use
from fedmend.repairs.federated_pruning import FederatedPruning
from fedmend.repairs.gate import Evidence, Gate, HoldOutGate, flaw_of, measure, overlooked, scan_again
from fedmend.repairs.judging import judge
from fedmend.repairs.repair_report import Outcome, RepairReport
from fedmend.repairs.target_checks import checks_beyond_the_reference
from fedmend.repairs.unlearning import Unlearning
from fedmend.seeds import derive_seed, generator, unpredictable_seed

FIVE_EPOCHS = Unlearning(epochs=5)
"""The default of :func:`repair`; the paper trains for one epoch."""
VOTING_GATE = Gate(max_accuracy_drop=0.05, max_trigger_success=0.25, detector=Differential())
"""The default of :func:`repair_by_votes`, which needs only a verdict, not the whole trigger."""

MIN_IMAGES = 20
SEARCHES = 2
MIN_SCAN_IMAGES = 10
_PER_CLASS, _PER_SOURCE = 3, 2 * FEWEST_PER_SOURCE
"""Images of a class in the new scan after a vote: the latter where clients found triggers of single source classes."""


def repair(
    case: Case,
    report: ScanReport,
    method: Repair = FIVE_EPOCHS,
    gate: HoldOutGate = HoldOutGate(),  # noqa: B008 - frozen
    *,
    seed: int | None = None,
    progress: Progress = silent,
) -> tuple[nn.Module | None, RepairReport]:
    """Remove the backdoor, rescan, and repeat until a scan finds none.

    The contrastive paper unlearns the one recovered trigger (2.6). The smallest working trigger is only part of the
    planted one; the rest can still activate the backdoor. The method therefore also gets the triggers, with all
    variants, of two more searches by the gate's detector on the repair's own images, and of each rescan. Each pass
    starts again from the suspect, so accuracy loss doesn't accumulate. A method that new triggers don't change has one
    pass; one that needs no trigger also repairs where the scan was inconclusive or recovered none (see
    :class:`~fedmend.repairs.base.Repair`). The gate checks the triggers of all scans, whatever the method uses.

    Args:
        case: the suspect, left as found, with the server's clean images, N at least 20, their labels, and what else
            the gate's detector needs. Images of the scan may be among the held-out ones, which biases trigger success
            upward.
        report: the scan of the suspect. Where the gate's detector needs a reference and the case has none, there is no
            further scan, and the outcome is "unverified" at best.
        method: by default :class:`Unlearning` for five epochs, where the paper has one.
        gate: what the repaired model must pass. No trigger that any of the scans found may still work.
        seed: of the choice of held-out images, the scans and the method; by default drawn anew, since a model can be
            trained to withstand a known one. The report's settings name it.
        progress: see ``fedmend.progress``.

    Returns:
        The repaired model, or None unless the outcome is "repaired" or "unverified"; and the report.

    Raises:
        DataError: too few images, or no labels. ConfigError: the method needs something missing, or training diverged.
    """
    if seed is None:
        seed = unpredictable_seed()
    job = _Job(method, gate, seed)
    own, held_out = _split(case, gate.held_out_fraction, seed)
    first = _incriminating(report)
    # The first scan's variants are left out: the searches find them on images of the repair's own.
    findings = [_without_variants(finding) for finding in first]
    use = trigger_use(method)
    missing = report.verdict != "backdoored" or all(target.trigger is None for target in _targets(first))
    if report.verdict == "clean" or (missing and use != "none"):
        return None, job.report(_not_tried(report), measure((case.suspect, case.suspect), *held_out))

    can_scan = case.reference is not None or Need.REFERENCE not in gate.detector.needs
    numbers = count()

    def search(model: nn.Module) -> ScanReport:
        scanned = replace(own, suspect=model)
        return scan_again(gate, scanned, report.num_images, (next(numbers), seed), progress)

    for _ in range(SEARCHES if can_scan else 0):
        findings += _incriminating(search(case.suspect))
    verdict: Verdict | None = None
    flaw, missed = None, ""
    for number in range(1, (gate.max_passes if use == "all" and can_scan else 1) + 1):
        context = Context(
            own.reference,
            own.images,
            own.labels,
            attempt=number,
            seed=derive_seed(seed, "unlearn", number),
            progress=progress,
        )
        candidate = method(deepcopy(case.suspect), findings, context)
        verdict, flaw = None, flaw_of(candidate.model, held_out[0])
        if flaw is not None or not can_scan:
            break
        scanned = search(candidate.model)
        verdict = scanned.verdict
        if verdict == "clean":
            missed = overlooked(scanned, (*_targets(first), *_targets(findings)))
            break
        findings += _incriminating(scanned)
    found = (*_targets(first), *_targets(findings), *candidate.targets)
    # A scan is also inconclusive where the reference may be backdoored, too.
    sure = any(finding.verdict == "backdoored" for finding in report.findings)
    reference = case.reference if sure else None
    evidence = measure((case.suspect, candidate.model), *held_out, found, reference)
    evidence = replace(evidence, verdict_after=verdict, overlooked=missed, flaw=flaw or evidence.flaw)
    return job.judged(candidate, evidence, case.class_names or ())


def repair_by_votes(
    case: Case,
    participants: Participants,
    method: FederatedPruning = FederatedPruning(),  # noqa: B008 - frozen
    gate: Gate = VOTING_GATE,
    progress: Progress = silent,
) -> tuple[nn.Module | None, RepairReport, dict[str, nn.Module]]:
    """Let a federation's clients vote on what to prune, and fine-tune; no prior scan is needed.

    Args:
        case: the suspect, left as found. Images and labels of the server's own are what the gate judges by: they
            should not be among ``participants.validation``, and the report counts those that are. With a reference as
            well, a new scan is made. Without images, the clients report accuracies.
        participants: the federation, with the images that choose how far to prune, the groups and the round.
        method: how to hold the vote, prune and fine-tune.
        gate: what the repaired model must pass.
        progress: see ``fedmend.progress``.

    Returns:
        The repaired model, or None unless the outcome is "repaired" or "unverified"; the report; and the
        model after each stage, for research only: the gate has not judged them.

    Raises:
        DataError: no client's reply counts, images without labels, or validation images without images to judge by.
        ModelError: the model has no convolution.
    """
    job = _Job(method, gate, participants.seed)
    if (case.images is None) != (case.labels is None):
        raise DataError("a repair by votes needs images with labels to judge by, or neither")
    validation = participants.validation
    if validation is not None and case.images is None:
        raise DataError(
            "participants has validation images, but the case has none to judge the result by; give it held-out images"
        )
    context = Context(
        case.reference,
        None if validation is None else validation.images,
        None if validation is None else validation.labels,
        participants,
        seed=participants.seed,
        progress=progress,
    )
    candidate = method(deepcopy(case.suspect), (), context)
    if case.images is None or case.labels is None:
        assert candidate.reported is not None
        flaw = flaw_of(candidate.model, torch.zeros(1, *participants.image_shape))
        evidence = Evidence(*candidate.reported, target_checks=candidate.reported_checks, flaw=flaw)
    else:
        models = (case.suspect, candidate.model)
        evidence = measure(models, case.images, case.labels, reference=case.reference)
        if evidence.flaw is None:
            checks = checks_beyond_the_reference(
                models, case.reference, case.images, case.labels, candidate.targets
            )
            evidence = replace(evidence, target_checks=checks)
        chosen_by = case.images[:0] if validation is None else validation.images
        held_out = ~among(case.images, chosen_by)
        evidence = replace(evidence, num_heldout=int(held_out.sum()))
    if case.images is not None and case.reference is not None and evidence.flaw is None:
        pairs = any(target.sources for target in candidate.targets)
        size = max(MIN_SCAN_IMAGES, (_PER_SOURCE if pairs else _PER_CLASS) * case.suspect_logits.shape[1])
        repaired = Case(candidate.model, case.reference, case.images, case.labels, case.class_names)
        again = scan_again(gate, repaired, size, (0, participants.seed), progress)
        missed = overlooked(again, candidate.targets) if again.verdict == "clean" else ""
        evidence = replace(evidence, verdict_after=again.verdict, overlooked=missed)
    return *job.judged(candidate, evidence, case.class_names or ()), candidate.stages


@dataclass(frozen=True)
class _Job:
    """A repair, from start to report."""

    method: Repair
    gate: Gate
    seed: int
    started: float = field(default_factory=time.perf_counter)

    def judged(
        self, candidate: Candidate, evidence: Evidence, class_names: Sequence[str]
    ) -> tuple[nn.Module | None, RepairReport]:
        verdict = judge(self.gate, evidence, candidate.summary, class_names)
        return (candidate.model if verdict[0] in ("repaired", "unverified") else None), self.report(
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
            accuracy_reference=evidence.accuracy_reference,
            num_judged=evidence.num_judged,
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


def images_learned_from(case: Case, gate: HoldOutGate, report: RepairReport) -> Tensor:
    """The images of a case that its repair by :func:`repair` could learn from, (N, C, H, W); the others judged it."""
    own, _ = _split(case, gate.held_out_fraction, report.settings["seed"])
    assert own.images is not None
    return own.images


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


def _targets(findings: Sequence[Finding]) -> list[Target]:
    return [target for finding in findings for target in finding.targets]


def _incriminating(report: ScanReport) -> list[Finding]:
    return [finding for finding in report.findings if finding.verdict != "clean"]


def _without_variants(finding: Finding) -> Finding:
    return replace(finding, targets=tuple(replace(target, variants=()) for target in finding.targets))


def _not_tried(report: ScanReport) -> tuple[Outcome, str]:
    if report.verdict == "clean":
        return "not needed", "The scan found no backdoor, so nothing was changed."
    if report.verdict == "inconclusive":
        return "undecided", (
            "The scan was inconclusive, so nothing was changed. A repair that needs no trigger, such as ft-sam, can be "
            "tried."
        )
    return "undecided", (
        "The scan found a backdoor but recovered no trigger to unlearn, so nothing was changed. Scan with a detector "
        "that recovers one, such as differential, or choose a repair that needs none, such as ft-sam."
    )
