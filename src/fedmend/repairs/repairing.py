"""Repair: a backdoored model and its scan to a repaired model, never worse than what came in."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any, Literal

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from fedmend.detection import THOROUGH, Contrastive
from fedmend.detection.scan_report import ScanReport, Verdict
from fedmend.detection.scanning import scan
from fedmend.errors import ConfigError, DataError
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.goals import AllToOne
from fedmend.inference import predict
from fedmend.progress import Progress, silent
from fedmend.repairs.unlearning import Unlearning
from fedmend.seeds import derive_seed, generator
from fedmend.triggers import Patch

Outcome = Literal["repaired", "failed", "not needed", "undecided"]


@dataclass(frozen=True)
class RepairReport:
    """How a repair went. Shares are in [0, 1] and measured on held-out images, which no step of it trained on.

    The images of the scan that came before may be among them; so a trigger's success is a little too high there.

    Attributes:
        outcome: "repaired"; "failed" where the result would be worse than allowed or is still backdoored; "not
            needed" where the scan found no backdoor; "undecided" where it was inconclusive.
        reason: the outcome in a sentence, for a person.
        accuracy_before, accuracy_after: clean accuracy of the suspect and of the repaired model.
        accuracy_error: standard error of the fall of the accuracy, from the images on which the two models differ.
        reasr_before, reasr_after: share of stamped held-out images sent to the target, with the recovered trigger.
        max_accuracy_drop: the largest fall of the clean accuracy that is allowed.
        passes: how often triggers were searched and unlearned.
        triggers: how many triggers, the recovered ones and their variants, were unlearned.
        verdict_after: what a new scan of the repaired model says, or None if there was none.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    outcome: Outcome
    reason: str
    method: str
    settings: dict[str, Any]
    seconds: float
    accuracy_before: float
    accuracy_after: float
    accuracy_error: float
    num_heldout: int
    max_accuracy_drop: float
    reasr_before: float
    reasr_after: float
    passes: int
    triggers: int
    verdict_after: Verdict | None
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        """The report as JSON text."""
        return _ADAPTER.dump_json(self, indent=2).decode()

    @staticmethod
    def from_json(text: str | bytes) -> RepairReport:
        """Read what :meth:`to_json` wrote.

        Raises:
            DataError: the text is not such a report.
        """
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise DataError(f"not a fedmend repair report: {error}") from error


_ADAPTER = TypeAdapter(RepairReport)

REPAIR = Unlearning(epochs=5)
SEARCHES = 2


def repair(
    suspect: nn.Module,
    *,
    reference: nn.Module,
    images: Tensor,
    labels: Tensor,
    report: ScanReport,
    method: Unlearning | None = None,
    scan_method: Contrastive | None = None,
    max_accuracy_drop: float = 0.01,
    max_passes: int = 3,
    held_out_share: float = 0.5,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[nn.Module | None, RepairReport]:
    """Unlearn a backdoor, scan again, and go on until the scan finds none.

    The paper's 2.6 unlearns the one recovered trigger. The smallest that works is a part of the planted one, though,
    and the backdoor answers to the rest as well. So what is unlearned are the recovered trigger, and what two thorough
    scans on images of the repair's own find with all variants; and after a pass what a new scan finds in addition. Each
    pass begins from the suspect again, so that passes don't add up their harm. The soft answers that keep the accuracy
    are the mean of the suspect's and the reference's.

    Args:
        suspect: the backdoored model; left untouched.
        reference: the clean reference of the scan.
        images: the server's clean images, uint8 or float (N, C, H, W), N at least 20; labels: int64 (N,).
        report: the scan of ``suspect``.
        method: how to unlearn; by default :class:`Unlearning` for five epochs, where the paper has one.
        scan_method: the inversion method of its own scans, before the first pass and after each; by default
            ``THOROUGH``: what is unlearned should be the whole of the planted trigger.
        max_accuracy_drop: how much lower, in [0, 1], the held-out clean accuracy may be. The repair failed if it fell
            by more than this and one standard error: a few hundred images can't tell a fall of a point from none.
        max_passes: how often to search and unlearn at most.
        held_out_share: share of the images that are kept from training and decide whether the repair succeeded.
        seed: for the split and the training.

    Returns:
        The repaired model, or None where the outcome isn't "repaired"; and the report.

    Raises:
        DataError: too few images. ConfigError: a setting out of range, or the unlearning diverged.
    """
    if not 0 < held_out_share < 1 or not 0 <= max_accuracy_drop <= 1 or max_passes < 1:
        raise ConfigError(
            "held_out_share must be in (0, 1), max_accuracy_drop in [0, 1] and max_passes 1 or more"
        )
    if len(images) < 20 or labels.shape != (len(images),):
        raise DataError(
            f"a repair needs at least 20 images with a label each, to train on and to check with; "
            f"got {len(images)} images and {tuple(labels.shape)} labels"
        )
    method = method or REPAIR
    started = time.perf_counter()
    order = torch.randperm(len(images), generator=generator(seed, "held out"))
    held_out, training = order.tensor_split([max(1, round(held_out_share * len(images)))])
    own_images, own_labels = images[training], labels[training]
    check = _Check(images[held_out], labels[held_out], report)
    accuracy_before = check.accuracy(suspect)

    searches = count()

    def search(model: nn.Module) -> ScanReport:
        number = next(searches)
        scanned = torch.randperm(len(own_images), generator=generator(seed, "scan", number))
        return scan(
            model,
            reference=reference,
            images=own_images[scanned[: report.num_images]],
            labels=own_labels[scanned[: report.num_images]],
            method=scan_method or THOROUGH,
            thresholds=report.thresholds,
            control=False,  # a repair takes no chances: what isn't clean isn't repaired
            seed=derive_seed(seed, "scan", number),
            progress=progress,
        )

    model, passes, found, current = suspect, 0, list[Patch](), report
    if report.verdict == "backdoored":
        found = [report.trigger]
        for _ in range(SEARCHES):
            found += _patches(search(suspect))
    while found and passes < max_passes and (not passes or current.verdict != "clean"):
        found += _patches(current) if passes else []
        passes += 1
        model = method(
            suspect,
            found,
            own_images,
            own_labels,
            teachers=(suspect, reference),
            seed=derive_seed(seed, "unlearn", passes),
            progress=progress,
        )
        if not all(bool(value.isfinite().all()) for value in model.state_dict().values()):
            raise ConfigError("the unlearning diverged: its weights became NaN or infinite; take a lower lr")
        current = search(model)

    accuracy_after = check.accuracy(model)
    error = check.error_of_fall(suspect, model)
    reasr_after = check.reasr(model)
    outcome, reason = _judge(
        report, current, accuracy_before, accuracy_after, error, max_accuracy_drop, len(found), reasr_after
    )
    return (model if outcome == "repaired" else None), RepairReport(
        outcome=outcome,
        reason=reason,
        method=type(method).__name__.lower(),
        settings=asdict(method) | {"max_passes": max_passes, "held_out_share": held_out_share, "seed": seed},
        seconds=time.perf_counter() - started,
        accuracy_before=accuracy_before,
        accuracy_after=accuracy_after,
        accuracy_error=error,
        num_heldout=len(held_out),
        max_accuracy_drop=max_accuracy_drop,
        reasr_before=check.reasr(suspect),
        reasr_after=reasr_after,
        passes=passes,
        triggers=len(found),
        verdict_after=current.verdict if passes else None,
    )


@dataclass(frozen=True, eq=False)
class _Check:
    """Measures models on the held-out images."""

    images: Tensor
    labels: Tensor
    report: ScanReport

    def accuracy(self, model: nn.Module) -> float:
        return accuracy(model, self.images, self.labels)

    def error_of_fall(self, before: nn.Module, after: nn.Module) -> float:
        """Standard error of the fall of the accuracy: how uncertain these few images leave it."""
        right = [
            (predict(model, self.images).cpu() == self.labels.cpu()).double() for model in (before, after)
        ]
        spread = float((right[0] - right[1]).std(correction=0))
        return spread / math.sqrt(len(self.labels))

    def reasr(self, model: nn.Module) -> float:
        return attack_success_rate(
            model, self.report.trigger, AllToOne(self.report.target_class), self.images, self.labels
        )


def _patches(scanned: ScanReport) -> list[Patch]:
    return [] if scanned.verdict == "clean" else [scanned.trigger, *scanned.variants]


def _judge(
    report: ScanReport,
    last: ScanReport,
    before: float,
    after: float,
    error: float,
    limit: float,
    triggers: int,
    reasr: float,
) -> tuple[Outcome, str]:
    if report.verdict == "clean":
        return "not needed", "The scan found no backdoor, so nothing was changed."
    if report.verdict == "inconclusive":
        return "undecided", "The scan was inconclusive, so nothing was changed."
    accuracies = f"clean accuracy on held-out images went from {before:.1%} to {after:.1%}"
    if before - after - error > limit + 1e-9:  # 1.0 - 0.99 is a little more than 0.01
        return "failed", (
            f"The {accuracies}: {before - after:.1%} lower, give or take {error:.1%}, where {limit:.1%} is allowed. "
            "Give more images, or allow more."
        )
    parts = "A trigger was" if triggers == 1 else f"A trigger in {triggers} variants was"
    if last.verdict != "clean":
        return "failed", (
            f"{parts} found and unlearned, but a new scan still says {last.verdict}; {accuracies}. Give more images, "
            "or go back to an earlier round's model."
        )
    if reasr >= report.thresholds.suspicion:
        return "failed", (
            f"{parts} found and unlearned, but the recovered trigger still works on {reasr:.0%} of the held-out "
            f"images; {accuracies}. Unlearn for longer, or go back to an earlier round's model."
        )
    return "repaired", f"{parts} found and unlearned, and a new scan finds none; {accuracies}."
