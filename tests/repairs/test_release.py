"""What is never released, whatever the repair and the scans say: repairs and detectors here are made up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedmend.detection import Case, Finding, Need, Target, scan
from fedmend.repairs import Candidate, Context, HoldOutGate, RepairReport, repair
from fedmend.repairs.repair_report import UnlearningDetails
from fedmend.triggers import Patch

LABELS = torch.arange(240) % 3
IMAGES = torch.rand(240, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.2
IMAGES[torch.arange(240), 0, 2 + LABELS] += 0.7


def corner(row: int, column: int) -> Patch:
    mask = torch.zeros(1, 8, 8)
    mask[0, row, column] = 1
    return Patch(mask, mask.clone())


FIRST, SECOND, THIRD = corner(0, 0), corner(7, 7), corner(0, 7)


class Net(nn.Module):
    """Classifies by the brightest row; a bright corner sends images to class 0, 1 or 2, as far as its weight says."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, images: Tensor) -> Tensor:
        corners = images[:, 0, [0, 7, 0], [0, 7, 7]]
        return images[:, 0, 2:5].mean(2) * 10 + (corners > 0.9).float() * self.weights * 100


@dataclass
class Returns:
    """A repair."""

    make: Callable[[nn.Module, Context], nn.Module]
    trigger_use: str = "all"

    def __call__(self, suspect: nn.Module, findings: Sequence[Finding], context: Context) -> Candidate:
        details = UnlearningDetails(context.attempt, len(findings))
        return Candidate(self.make(suspect, context), "Something was done", details)


def finding(verdict: Any, *targets: Target) -> Finding:
    return Finding("made up", verdict, "Because.", 1.0, 0.5, targets=targets)


class Says:
    """A detector with a finding for each scan."""

    needs = frozenset[Any]()

    def __init__(self, *findings: Finding) -> None:
        self.findings = list(findings)

    def __call__(self, *_: Any) -> Finding:
        return self.findings.pop(0)


CLEAN = finding("clean")
A, B, C = (Target(index, 1.0, trigger=patch) for index, patch in enumerate((FIRST, SECOND, THIRD)))
FOUND_A = finding("backdoored", A)


def repaired(
    make: Callable[[nn.Module, Context], nn.Module],
    *says: Finding,
    suspect: nn.Module | None = None,
    first: Finding = FOUND_A,
    use: str = "all",
) -> tuple[nn.Module | None, RepairReport]:
    """By default two searches and the new scan find nothing more."""
    case = Case(suspect or Net(1.0, 1.0, 1.0), None, IMAGES, LABELS)
    gate = HoldOutGate(detector=Says(*(says or (CLEAN,) * 3)))
    return repair(case, scan(case, Says(first)), Returns(make, use), gate, seed=0)


def test_a_model_that_none_of_the_triggers_moves_is_released() -> None:
    model, report = repaired(lambda *_: Net(0.0, 0.0, 0.0), FOUND_A, finding("backdoored", B), CLEAN)
    assert model is not None
    assert report.outcome == "repaired"
    assert [check.target for check in report.target_checks] == [0, 1]


@pytest.mark.parametrize(
    ("says", "first"),
    [
        ((finding("backdoored", B), CLEAN, CLEAN), FOUND_A),
        ((FOUND_A, finding("inconclusive", B), CLEAN), FOUND_A),
        ((FOUND_A, FOUND_A, finding("backdoored", B), CLEAN), FOUND_A),
        ((FOUND_A, finding("backdoored", Target(1, 1.0, trigger=corner(4, 4), variants=(SECOND,))), CLEAN), FOUND_A),
        ((FOUND_A, FOUND_A, CLEAN), finding("backdoored", A, Target(1, 1.0, variants=(SECOND,)))),
    ],
    ids=["a search", "the other search", "a new scan", "a variant", "the first scan's variant"],
)  # fmt: skip
def test_a_trigger_that_any_scan_found_must_not_work_any_more(
    says: tuple[Finding, ...], first: Finding
) -> None:
    model, report = repaired(lambda *_: Net(0.0, 1.0, 0.0), *says, first=first)
    assert (model, report.outcome) == (None, "failed")
    assert report.verdict_after == "clean"
    assert "a found trigger still works: it sends 100% of the held-out images" in report.reason
    (check,) = (check for check in report.target_checks if check.target == 1)
    assert (check.success_before, check.success_after) == (1.0, 1.0)


UNSEARCHED = finding("backdoored", B)
"""What a detector would say if it was asked, in tests where it must not be."""


@pytest.mark.parametrize(
    ("use", "first", "tried"),
    [
        ("all", finding("inconclusive", A), False),
        ("one", finding("inconclusive", A), False),
        ("none", finding("inconclusive", A), True),
        ("all", finding("backdoored"), False),
        ("none", finding("backdoored"), True),
        ("none", CLEAN, False),
    ],
    ids=["all", "one", "none", "all without a trigger", "none without a trigger", "none on a clean model"],
)
def test_what_a_repair_uses_of_the_findings_decides_what_it_repairs(
    use: str, first: Finding, tried: bool
) -> None:
    model, report = repaired(lambda *_: Net(0.0, 0.0, 0.0), first=first, use=use)
    assert (model is not None) == tried
    assert (report.details is not None) == tried
    if tried:
        assert report.outcome == "repaired"


class Certain(Net):
    """Another model of the same predictions."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * 2


@pytest.mark.parametrize(
    ("verdict", "compares", "named"),
    [("backdoored", True, True), ("inconclusive", True, False), ("backdoored", False, False)],
)
def test_a_reference_that_may_be_backdoored_as_well_is_not_recommended(
    verdict: str, compares: bool, named: bool
) -> None:
    """A scan is inconclusive where a trigger works in both models, or looks at the suspect alone."""
    case = Case(Net(1.0, 1.0, 1.0), Certain(1.0, 0.0, 0.0), IMAGES, LABELS)
    gate, method = HoldOutGate(detector=Says(*(CLEAN,) * 3)), Returns(lambda *_: Net(0.0, 0.0, 0.0), "none")
    if compares:
        gate.detector.needs = frozenset({Need.REFERENCE})  # type: ignore[misc]
    _, report = repair(case, scan(case, Says(finding(verdict, A))), method, gate, seed=0)
    assert report.outcome == "repaired"
    assert ("going back to it loses nothing" in report.reason) is named
    assert (report.accuracy_reference is not None) is named


@pytest.mark.parametrize(("use", "passes"), [("all", 3), ("one", 1), ("none", 1)])
def test_only_what_new_triggers_change_is_tried_again(use: str, passes: int) -> None:
    tried: list[int] = []

    def make(_: nn.Module, context: Context) -> nn.Module:
        tried.append(context.attempt)
        return Net(0.0, 0.0, 0.0)

    model, report = repaired(make, CLEAN, CLEAN, *[finding("backdoored", B)] * passes, use=use)
    assert model is None
    assert report.outcome == "failed"
    assert tried == list(range(1, passes + 1))


def test_the_gate_checks_triggers_that_the_repair_does_not_use() -> None:
    model, report = repaired(
        lambda *_: Net(0.0, 1.0, 0.0), finding("backdoored", B), CLEAN, CLEAN, use="none"
    )
    assert (model, report.outcome) == (None, "failed")
    assert "a found trigger still works" in report.reason


def test_without_a_reference_that_a_scan_needs_the_result_is_unverified() -> None:
    """The scans that would follow are left out; the found triggers and the accuracy are judged all the same."""
    says = Says(UNSEARCHED)
    says.needs = frozenset({Need.REFERENCE})
    case, gate = Case(Net(1.0, 1.0, 1.0), None, IMAGES, LABELS), HoldOutGate(detector=says)
    found = scan(case, Says(FOUND_A))
    model, report = repair(case, found, Returns(lambda *_: Net(0.0, 1.0, 1.0)), gate, seed=0)
    assert model is not None
    assert (report.outcome, report.verdict_after) == ("unverified", None)
    assert "No new scan was made" in report.reason
    assert [check.target for check in report.target_checks] == [0]
    model, report = repair(case, found, Returns(lambda *_: Net(1.0, 1.0, 1.0)), gate, seed=0)
    assert (model, report.outcome) == (None, "failed")


class Memory(nn.Module):
    """Right on the images that it knows, and class 0 for all others."""

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        self.inner, self.known = Net(0.0, 0.0, 0.0), known

    def forward(self, images: Tensor) -> Tensor:
        middle, known = images[:, 0, 2:5].flatten(1), self.known[:, 0, 2:5].flatten(1)  # corners don't matter
        new = (torch.cdist(middle, known, compute_mode="donot_use_mm_for_euclid_dist").min(1).values > 1e-3)[
            :, None
        ]
        logits: Tensor = self.inner(images)
        return logits + 1000 * new * torch.tensor([1.0, 0.0, 0.0])


def test_a_repair_that_is_good_on_its_own_images_alone_has_failed() -> None:
    def overfit(_: nn.Module, context: Context) -> nn.Module:
        assert context.images is not None
        return Memory(context.images)

    model, report = repaired(overfit)
    assert (model, report.outcome) == (None, "failed")
    assert report.accuracy_before == 1.0
    assert report.accuracy_after < 0.5
    assert report.num_judged == report.num_heldout == 120
    assert repaired(lambda *_: Memory(IMAGES))[1].outcome == "repaired"


class Nowhere(Net):
    """Its logits are NaN."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * math.nan


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (Net(math.nan, 0.0, 0.0), "the repaired model has weights that are NaN or infinite"),
        (Net(0.0, 0.0, math.inf), "the repaired model has weights that are NaN or infinite"),
        (Nowhere(0.0, 0.0, 0.0), "the repaired model returns NaN or infinite logits on clean images"),
    ],
    ids=["nan", "inf", "logits"],
)
def test_a_broken_model_has_failed_and_is_not_scanned(broken: nn.Module, said: str) -> None:
    model, report = repaired(lambda *_: broken, CLEAN, CLEAN)
    assert (model, report.outcome, report.verdict_after) == (None, "failed", None)
    assert said in report.reason
    assert math.isnan(report.accuracy_after)


def test_a_repair_that_changes_what_it_is_given_leaves_the_suspect_alone() -> None:
    def emptied(suspect: nn.Module, _: Context) -> nn.Module:
        with torch.no_grad():
            suspect.weights.zero_()  # type: ignore[operator, union-attr]
        return suspect.train()

    suspect = Net(1.0, 1.0, 1.0).eval()
    model, report = repaired(emptied, suspect=suspect)
    assert model is not None
    assert model is not suspect
    assert suspect.weights.tolist() == [1.0, 1.0, 1.0]
    assert not suspect.training
    assert (report.target_checks[0].success_before, report.target_checks[0].success_after) == (1.0, 0.0)
