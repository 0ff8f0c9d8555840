"""A candidate's scans: against each reference that the policy names, and what they say together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from fedmend.detection import Case, Detector, ScanReport, scan
from fedmend.detection.base import Verdict
from fedmend.guard.ledger import Accepted
from fedmend.guard.own_images import OwnImages
from fedmend.progress import Progress
from fedmend.seeds import derive_seed


@dataclass(frozen=True, eq=False)
class Reference:
    """A model to compare candidates with.

    Attributes:
        accepted: what the history says of it. model: with its weights.
    """

    accepted: Accepted
    model: nn.Module


@dataclass(frozen=True, eq=False)
class Scanned:
    """A scan and the reference that it compared with; None: it compared with none."""

    report: ScanReport
    case: Case
    reference: Reference | None

    @property
    def said(self) -> str:
        """The verdict's reason, and what the candidate was compared with."""
        against = (
            "without a reference" if self.reference is None else f"against {self.reference.accepted.said}"
        )
        return f"Scanned {against}: {self.report.reason}"

    def to_json(self) -> dict[str, Any]:
        """What a decision's evidence holds of it."""
        return {
            "reference": None if self.reference is None else self.reference.accepted.said,
            "verdict": self.report.verdict,
            "reason": self.report.reason,
            "seed": self.report.seed,
            "num_images": self.report.num_images,
            "warnings": list(self.report.warnings),
            "findings": [
                {
                    "detector": finding.detector,
                    "verdict": finding.verdict,
                    "reason": finding.reason,
                    "suspicious": _finite(finding.suspicious),
                    "limit": _finite(finding.limit),
                    "p_value": finding.p_value,
                    "targets": [
                        {
                            "target": each.target,
                            "sources": list(each.sources),
                            "success": _finite(each.success),
                        }
                        for each in finding.targets
                    ],
                }
                for finding in self.report.findings
            ],
        }


@dataclass(frozen=True, eq=False)
class Scanner:
    """How the scans of one round are made.

    Attributes:
        images: the guard's images. per_class: how many of each class a scan looks at.
        seed: of the round: which images are drawn, and what the scans draw.
        progress: see ``fedmend.progress``.
    """

    images: OwnImages
    per_class: int
    seed: int
    progress: Progress

    def scans(
        self, suspect: nn.Module, detectors: Sequence[Detector], references: Sequence[Reference]
    ) -> Iterator[Scanned]:
        """One scan for each reference, up to the first that says backdoored; without references, one scan.

        Raises:
            FedmendError: see :func:`fedmend.detection.scan`.
        """
        for number, reference in enumerate(references or [None]):
            seed = derive_seed(self.seed, "scan", number)
            model = None if reference is None else reference.model
            case = self.images.case(suspect, model, self.per_class, seed)
            report = scan(case, detectors, seed=seed, progress=self.progress)
            yield Scanned(report, case, reference)
            if report.verdict == "backdoored":
                return


def worst(scans: Sequence[Scanned]) -> Scanned:
    """The scan with the worst verdict; the first of several."""
    order: dict[Verdict, int] = {"backdoored": 0, "inconclusive": 1, "clean": 2}
    return min(scans, key=lambda each: order[each.report.verdict])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
