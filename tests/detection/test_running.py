"""All detectors at once: those that can't judge the model are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import planted
from fedmend.detection import Case, DetectorChoice, Finding, LeftOut, Need, ScanReport, scan
from fedmend.detection.base import Verdict
from fedmend.errors import DataError, ModelError
from fedmend.progress import Progress

ABSENT = (LeftOut("absent", "needs a clean reference model"),)


@dataclass(frozen=True)
class Stub:
    """Says clean, or fails."""

    needs: ClassVar[frozenset[Need]] = frozenset()

    error: Exception | None = None
    judges_images: bool = False
    verdict: Verdict = "clean"

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        if self.error is not None:
            raise self.error
        return Finding("stub", self.verdict, "Nothing.", 0.0, 1.0)


def scanned(world: planted.World, **detectors: Stub) -> ScanReport:
    case = Case(world.clean, None, world.images[:12], world.labels[:12], planted.NAMES)
    return scan(case, DetectorChoice(detectors, ABSENT), seed=0)


def test_a_detector_that_cannot_judge_the_model_is_left_out(world: planted.World) -> None:
    report = scanned(world, one=Stub(), two=Stub(ModelError("it has no hidden layer")), three=Stub())
    assert [finding.detector for finding in report.findings] == ["one", "three"]
    assert report.left_out == (*ABSENT, LeftOut("two", "it has no hidden layer"))
    assert report.agreement is not None
    assert report.agreement.verdicts == {"clean": ("one", "three")}
    assert ScanReport.from_json(report.to_json()).left_out == report.left_out


def test_if_none_can_the_first_one_s_error_ends_the_scan(world: planted.World) -> None:
    with pytest.raises(ModelError, match="first"):
        scanned(world, one=Stub(ModelError("first")), two=Stub(ModelError("second")))


def test_clean_images_make_no_model_clean_that_nothing_can_judge(world: planted.World) -> None:
    failing, images = Stub(ModelError("no gradient")), Stub(judges_images=True)
    with pytest.raises(ModelError, match="no gradient"):
        scanned(world, one=failing, two=images)
    assert scanned(world, one=images).verdict == "clean"
    poisoned = Stub(judges_images=True, verdict="backdoored")
    assert scanned(world, one=failing, two=poisoned).verdict == "backdoored"


def test_another_error_ends_the_scan(world: planted.World) -> None:
    with pytest.raises(DataError, match="no"):
        scanned(world, one=Stub(DataError("no")), two=Stub())


def test_one_that_was_asked_for_alone_is_not_left_out(world: planted.World) -> None:
    case = Case(world.clean, None, world.images[:12], world.labels[:12])
    with pytest.raises(ModelError, match="no"):
        scan(case, [Stub(), Stub(ModelError("no"))])


def test_a_mistake_in_the_case_stops_all_of_them(world: planted.World) -> None:
    case = Case(world.clean, None, world.images[:12], (world.labels[:12] + 1) % 4, planted.NAMES)
    report = scan(case, DetectorChoice({"one": Stub(DataError("not run"))}, ABSENT), seed=0)
    assert [finding.detector for finding in report.findings] == ["case-check"]
    assert report.left_out == ABSENT
