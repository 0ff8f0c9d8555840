"""One system on one model: scan, repair, and what the planted trigger does before and after; a line of results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.paper_a.federations import Federation, checkpoint, trunks
from benchmarks.paper_a.mean_reading import WEIGHTS, MeanReading
from benchmarks.paper_a.scales import Scale
from benchmarks.paper_a.training import images_of, network, runs_of, train, weak_reference
from torch import nn

from fedmend import Case, Finding, ScanReport, accuracy, attack_success_rate, repair, scan
from fedmend.checkpoints import save_trigger
from fedmend.data import ImageSet, stratified
from fedmend.detection import Detector, find_detector, recovered
from fedmend.goals import Goal, goal_from_table
from fedmend.repairs import REPAIRS, Context
from fedmend.seeds import generator
from fedmend.triggers import Patch, Trigger, trigger_from_table

SEED = 0
SERVER_IMAGES = 2000
REPAIR_IMAGES = 1000
MEASURED = 4000
"""Test images that the server doesn't hold, on which accuracy and ASR are measured."""
TRIGGERS = Path(__file__).parent / "results" / "triggers"
SHOWN = ("sba-plus-0", "dba-plus-0")
"""The models of Figure 3."""
PAPER, MEAN, OURS = "contrastive-paper", "mean-reading", "fedmend"
RIVALS = ("neural-cleanse", "tabor", "deep-inspect")
METHODS = (PAPER, MEAN, OURS, *RIVALS)

Line = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One line to measure.

    Attributes:
        federation: whose last model is the suspect.
        method: one of ``METHODS``.
        level: of a weak reference's accuracy; None: the trunk's last model.
    """

    federation: Federation
    method: str
    level: float | None = None

    @property
    def key(self) -> tuple[str, str, float | None]:
        """What tells it from other jobs of its scale."""
        return self.federation.name, self.method, self.level


@dataclass(frozen=True, eq=False)
class Subject:
    """A suspect with what is known of it.

    Attributes:
        suspect, reference: the models.
        server, others: the server's images, and those to measure with.
        attack: the planted trigger and goal; None if it is honest. No defence may see it.
    """

    suspect: nn.Module
    reference: nn.Module
    server: ImageSet
    others: ImageSet
    attack: tuple[Trigger, Goal] | None

    def asr(self, model: nn.Module) -> float | None:
        """The planted trigger's success in a model."""
        if self.attack is None:
            return None
        return attack_success_rate(model, *self.attack, self.others.images, self.others.labels)

    def accuracy(self, model: nn.Module) -> float:
        """A model's accuracy."""
        return accuracy(model, self.others.images, self.others.labels)

    def images(self, count: int, seed: int, use: str) -> ImageSet:
        """So many of the server's images."""
        return self.server.subset(stratified(self.server, count, generator(seed, use)))


def subject_of(scale: Scale, federation: Federation, level: float | None) -> Subject:
    """Train what isn't there, and load it."""
    runs = runs_of(scale)
    suspect = network(scale, train(scale, federation))
    trunk = checkpoint(runs, trunks(scale, runs)[federation.trunk])
    reference = network(scale, trunk if level is None else weak_reference(scale, level))
    _, test = images_of(scale.dataset)
    own = stratified(test, SERVER_IMAGES, generator(SEED, "server", federation.name))
    rest = torch.ones(len(test), dtype=torch.bool).index_fill_(0, own, False).nonzero().flatten()
    attack = None
    if federation.config.attack:
        config = federation.config.attack[0]
        attack = trigger_from_table(config.trigger, scale.image_shape), goal_from_table(config.goal)
    return Subject(suspect, reference, test.subset(own), test.subset(rest[:MEASURED]), attack)


def detector_of(scale: Scale, method: str) -> tuple[Detector, int]:
    """A method's detector with its default settings, and its number of images: three a class but for fedmend's."""
    if method == OURS:
        return find_detector("differential"), min(40, 600 // scale.num_classes) * scale.num_classes
    if method == MEAN:
        alpha, beta = WEIGHTS[scale.dataset]
        return MeanReading(alpha=alpha, beta=beta), 3 * scale.num_classes
    name = f"{PAPER}-{scale.dataset}" if method == PAPER else method
    return find_detector(name), 3 * scale.num_classes


def measured(scale: Scale, job: Job) -> Line:
    """The line of a job, whose models are trained first."""
    torch.set_num_threads(1)
    return line_of(scale, job, subject_of(scale, job.federation, job.level))


def line_of(scale: Scale, job: Job, subject: Subject) -> Line:
    """Scan a subject, and repair it where it is backdoored and the reference isn't a weak one."""
    detector, count = detector_of(scale, job.method)
    chosen = subject.images(count, SEED, "scan")
    case = Case(subject.suspect, subject.reference, chosen.images, chosen.labels)
    started, started_cpu = time.perf_counter(), time.process_time()
    report = scan(case, detector, seed=SEED)
    seconds, cpu = time.perf_counter() - started, time.process_time() - started_cpu
    finding = report.findings[0]
    goal = job.federation.config.attack[0].goal if job.federation.backdoored else None
    line: Line = {
        "scale": scale.name,
        "name": job.federation.name,
        "study": job.federation.study,
        "kind": job.federation.kind,
        "method": job.method,
        "level": job.level,
        "seed": SEED,
        "images": count,
        "target": goal["target"] if goal else None,
        "verdict": report.verdict,
        "found": [each.target for each in finding.targets],
        "suspicious": finding.suspicious,
        "measures": {each.key: each.value for each in finding.measures if not each.key.startswith("class_")},
        "seconds": seconds,
        "cpu_seconds": cpu,
        "asr": subject.asr(subject.suspect),
        "accuracy": subject.accuracy(subject.suspect),
        "reference_asr": subject.asr(subject.reference),
        "reference_accuracy": subject.accuracy(subject.reference),
    }
    keep_trigger(scale, job, finding)
    if job.federation.backdoored and job.level is None:
        line["repair"] = repaired(subject, job.method, report)
    return line


def repaired(subject: Subject, method: str, report: ScanReport) -> Line | None:
    """The repair that goes with a method, and what it reaches; None if there is nothing to repair with.

    fedmend's is its default behind its gate, and ``released`` says whether that let it through. The others' is the
    contrastive paper's 2.6 with their recovered trigger, whatever the verdict, as in its Table 3.
    """
    images = subject.images(REPAIR_IMAGES, SEED, "repair")
    started = time.process_time()
    if method == OURS:
        case = Case(subject.suspect, subject.reference, images.images, images.labels)
        model, outcome = repair(case, report, seed=SEED)
        if model is None:
            return {"released": False, "reason": outcome.reason}
        said = outcome.reason
    else:
        if not _with_trigger(report.findings):
            return None
        context = Context(None, images.images, images.labels, seed=SEED)
        candidate = REPAIRS["contrastive-paper-unlearning"](subject.suspect, report.findings, context)
        model, said = candidate.model, candidate.summary
    seconds = time.process_time() - started
    return {
        "released": True,
        "reason": said,
        "asr": subject.asr(model),
        "accuracy": subject.accuracy(model),
        "cpu_seconds": seconds,
    }


def _with_trigger(findings: Sequence[Finding]) -> bool:
    return any(recovered(finding) is not None for finding in findings)


def keep_trigger(scale: Scale, job: Job, finding: Finding) -> None:
    """Keep the recovered patch for Figure 3: those of the plus signs, of the first SBA and DBA."""
    target = recovered(finding)
    if job.federation.name not in SHOWN or target is None or not isinstance(target.trigger, Patch):
        return
    TRIGGERS.mkdir(parents=True, exist_ok=True)
    save_trigger(target.trigger, TRIGGERS / f"{scale.name}-{job.federation.name}-{job.method}.safetensors")
