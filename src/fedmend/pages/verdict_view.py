"""The top of the page: the verdict, or without a scan the repair's outcome, with the main facts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fedmend.detection.base import most_suspicious
from fedmend.detection.choosing import by_reason
from fedmend.detection.scan_report import ScanReport
from fedmend.pages import words
from fedmend.pages.contents import PageContents
from fedmend.repairs.repair_report import PruningDetails, RepairReport
from fedmend.triggers import Addition


@dataclass(frozen=True)
class Fact:
    """A figure under the verdict; ``small`` follows in smaller type, and a wide one has room for a long name."""

    label: str
    value: str
    small: str = ""
    wide: bool = False


@dataclass(frozen=True)
class VerdictView:
    """The first section.

    Attributes:
        eyebrow: the headline's subject.
        verdict, outcome: of the scan and of the repair, in words.
        shown: the one in the headline; None if there is neither.
        reason: from the report.
        accuracies: on the scan's clean images, as a sentence.
        left_out: methods that were left out, and why.
    """

    eyebrow: str
    verdict: words.Wording | None
    outcome: words.Wording | None
    shown: words.Wording | None
    reason: str
    facts: list[Fact]
    accuracies: str
    left_out: list[tuple[str, str]]


def view_of_verdict(contents: PageContents) -> VerdictView:
    """Gather the section's parts."""
    scan, repair = contents.scan, contents.repair
    verdict = words.verdict(scan.verdict, compared=not scan.scope) if scan else None
    outcome = words.OUTCOMES[repair.outcome] if repair else None
    if scan and verdict and scan.verdict == "backdoored" and repair and repair.outcome == "repaired":
        verdict = replace(verdict, meaning=words.RELEASE_THE_REPAIRED)
    facts: list[Fact] = []
    if scan:
        facts = list(_scan_facts(scan))
    elif repair and contents.pruning:
        facts = list(_pruning_facts(repair, contents.pruning))
    return VerdictView(
        eyebrow="Verdict on the scanned model" if scan else "Outcome of the repair",
        verdict=verdict,
        outcome=outcome,
        shown=verdict or outcome,
        reason=scan.reason if scan else repair.reason if repair else "",
        facts=facts,
        accuracies=_accuracies(scan) if scan else "",
        left_out=_left_out(scan) if scan else [],
    )


def _scan_facts(scan: ScanReport) -> Iterator[Fact]:
    target = None
    if scan.findings:
        targets = most_suspicious(scan.findings).targets
        target = targets[0] if targets else None
    if target is not None:
        more = f" and {len(targets) - 1:,} more" if len(targets) > 1 else ""
        name = words.class_name(target.target, scan.class_names)
        sources = f" from {words.class_list(target.sources, scan.class_names)}" if target.sources else ""
        label = "Strongest candidate" if scan.verdict == "clean" else "Target class"
        yield Fact(label, name, sources + more, wide=True)
        if not math.isnan(target.success):
            yield Fact("Success", words.percent(target.success))
        if isinstance(target.trigger, Addition):
            yield Fact("Change", words.percent(target.trigger.strength), " of the pixels’ range")
        elif target.trigger is not None:
            _, height, width = target.trigger.mask.shape
            size = words.patch_size(target.trigger.size)
            yield Fact("Patch size", size, f" of {height * width:,} px")
    yield Fact("Images", f"{scan.num_images:,}")
    yield Fact("Time", words.duration(scan.seconds))


def _pruning_facts(repair: RepairReport, details: PruningDetails) -> Iterator[Fact]:
    before, after = words.percent(repair.accuracy_before), words.percent(repair.accuracy_after)
    yield Fact("Clean accuracy", after, f" from {before}", wide=True)
    yield Fact("Channels pruned", f"{len(details.pruned):,}", f" of {details.channels:,}")
    yield Fact("Layer", details.layer)
    yield Fact("Valid ballots", f"{details.ballots:,}")
    yield Fact("Time", words.duration(repair.seconds))


def _left_out(scan: ScanReport) -> list[tuple[str, str]]:
    return [(", ".join(methods), reason) for reason, methods in by_reason(scan.left_out).items()]


def _accuracies(scan: ScanReport) -> str:
    known = [("the suspect", scan.suspect_accuracy), ("the reference", scan.reference_accuracy)]
    parts = [f"{words.percent(value)} for {name}" for name, value in known if value is not None]
    return f"Accuracy on the clean scan images: {' and '.join(parts)}." if parts else ""
