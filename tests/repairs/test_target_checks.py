"""Whether found triggers still work, and what a repair by votes makes of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedmend.detection import Case, Finding, Target
from fedmend.local_training import LocalTraining
from fedmend.repairs import (
    VOTING_GATE,
    Candidate,
    Context,
    FederatedPruning,
    Participants,
    RepairReport,
    repair_by_votes,
    repairing,
)
from fedmend.repairs.gate import Evidence, Gate
from fedmend.repairs.judging import judge
from fedmend.repairs.repair_report import FineTuningDetails, TargetCheck
from fedmend.repairs.target_checks import checks_beyond_the_reference, checks_on_all_images
from fedmend.triggers import Patch

LABELS = torch.tensor([0] * 100 + [1] * 100)


def white(column: int) -> Patch:
    """One pixel of the first row."""
    mask = torch.zeros(1, 2, 4)
    mask[0, 0, column] = 1
    return Patch(mask, mask.clone())


def images() -> Tensor:
    """Of classes 0 and 1: the last pixel is the class, the one before how much an image resists, from 0 to 0.99."""
    made = torch.zeros(200, 1, 2, 4)
    made[:, 0, 1, 3] = LABELS
    made[:, 0, 1, 2] = torch.arange(200) % 100 / 100
    return made


class Moved(nn.Module):
    """Sees the class; a white pixel in a column moves the fraction of class 0 given for it to class 1.

    The images that resist most, a fraction ``wrong``, it takes for class 1 as they are.
    """

    def __init__(self, *fractions: float, wrong: float = 0.0) -> None:
        super().__init__()
        self.fractions, self.wrong = fractions, wrong

    def forward(self, pixels: Tensor) -> Tensor:
        resists = pixels[:, 0, 1, 2]
        sent = (pixels[:, 0, 1, 3] == 1) | (resists >= 1 - self.wrong - 1e-6)
        for column, fraction in enumerate(self.fractions):
            sent = sent | ((pixels[:, 0, 0, column] == 1) & (resists < fraction - 1e-6))
        return nn.functional.one_hot(sent.long(), 2).float()


def targets(*columns: int) -> tuple[Target, ...]:
    return tuple(Target(1, 1.0, (0,), white(column)) for column in columns)


def checks(
    suspect: nn.Module, repaired: nn.Module, reference: nn.Module | None, found: Sequence[Target]
) -> tuple[TargetCheck, ...]:
    return checks_beyond_the_reference((suspect, repaired), reference, images(), LABELS, found)


@pytest.mark.parametrize(
    ("repaired", "column", "clean"),
    [
        ((0.6, 0.5, 0.2), 1, 0.1),  # by excess 0.1, 0.4, 0.2
        ((0.9, 0.45, 0.3), 0, 0.5),  # 0.4, 0.35, 0.3
        ((0.0, 0.0, 0.1), 2, 0.0),
    ],
)
def test_a_servers_check_is_of_the_trigger_that_exceeds_the_reference_most(
    repaired: tuple[float, ...], column: int, clean: float
) -> None:
    suspect, reference = Moved(1.0, 0.9, 0.8), Moved(0.5, 0.1, 0.0)
    (check,) = checks_on_all_images(
        (suspect, Moved(*repaired)), images(), LABELS, targets(0, 1, 2), reference
    )
    before = suspect.fractions[column]
    assert check == TargetCheck(1, (0,), before, pytest.approx(repaired[column]), 3, pytest.approx(clean))


def test_without_a_reference_the_trigger_that_works_best_counts() -> None:
    (check,) = checks(Moved(1.0, 0.9), Moved(0.1, 0.3), None, targets(0, 1, 1))
    assert check == TargetCheck(1, (0,), 0.9, pytest.approx(0.3), 2)
    assert check.excess == pytest.approx(0.3)


def test_with_a_reference_the_one_that_exceeds_it_most_counts() -> None:
    """The first moves most of the class in any model; the second does so by the backdoor alone."""
    (check,) = checks(Moved(1.0, 1.0), Moved(0.8, 0.3), Moved(0.75, 0.05), targets(0, 1))
    assert check == TargetCheck(1, (0,), 1.0, pytest.approx(0.3), 2, pytest.approx(0.05))
    assert check.excess == pytest.approx(0.25)


def test_images_that_are_wrong_without_the_trigger_do_not_count() -> None:
    """The repaired model takes 20 of 100 for class 1 anyway, and the trigger moves 8 of the other 80."""
    (check,) = checks(Moved(1.0), Moved(0.08, wrong=0.2), None, targets(0))
    assert check.success_after == pytest.approx(0.08)


def test_each_pair_is_checked_and_what_cannot_be_is_left_out() -> None:
    found = (
        *targets(0),
        Target(0, 1.0, (1,), white(0)),
        Target(1, 1.0, (3,), white(0)),
        Target(2, 1.0, (0,)),
    )
    assert [(check.target, check.sources) for check in checks(Moved(1.0), Moved(0.5), None, found)] == [
        (1, (0,)),
        (0, (1,)),
    ]


def evidence(check: TargetCheck) -> Evidence:
    return Evidence(1.0, 1.0, num_judged=100, num_heldout=100, verdict_after="clean", target_checks=(check,))


@pytest.mark.parametrize(
    ("after", "reference", "outcome"),
    [
        (0.24, None, "repaired"),
        (0.25, None, "failed"),
        (0.27, 0.03, "repaired"),
        (0.28, 0.03, "failed"),
        (0.9, 0.66, "repaired"),
        (0.9, 0.65, "failed"),
    ],
)
def test_votes_have_failed_where_a_trigger_works_on_a_quarter_more_than_in_the_reference(
    after: float, reference: float | None, outcome: str
) -> None:
    found, reason = judge(VOTING_GATE, evidence(TargetCheck(1, (9,), 0.99, after, 1, reference)), "Done")
    assert found == outcome
    clean = "" if reference is None else f" and {reference:.0%} in the clean reference"
    said = f"it sends {after:.0%} of the held-out images of class 9 to class 1, 99% before{clean};"
    assert (said in reason) == (outcome == "failed")


def test_the_trigger_that_exceeds_the_reference_most_is_the_one_named() -> None:
    found = evidence(TargetCheck(1, (9,), 0.99, 0.9, 1, 0.8))
    both = replace(found, target_checks=(*found.target_checks, TargetCheck(2, (7,), 0.9, 0.3, 1, 0.01)))
    outcome, reason = judge(VOTING_GATE, both, "Done")
    assert outcome == "failed"
    assert "it sends 30% of the held-out images of class 7 to class 2" in reason


def test_other_repairs_are_judged_as_before() -> None:
    assert judge(Gate(), evidence(TargetCheck(1, (9,), 0.99, 0.49)), "Done")[0] == "repaired"
    assert judge(Gate(), evidence(TargetCheck(1, (9,), 0.99, 0.5)), "Done")[0] == "failed"


def voted(
    monkeypatch: pytest.MonkeyPatch, repaired: nn.Module, reference: nn.Module | None = None
) -> tuple[nn.Module | None, RepairReport]:
    """A repair of a suspect that a pixel moves wholly; the votes end in this model."""

    def call(
        self: FederatedPruning, suspect: nn.Module, findings: Sequence[Finding], context: Context
    ) -> Candidate:
        return Candidate(repaired, "The clients voted", FineTuningDetails(0, 0), targets=targets(0))

    monkeypatch.setattr(FederatedPruning, "__call__", call)
    nobody: Any = None
    participants = Participants((1, 2, 4), (), lambda number: (), 1, LocalTraining(), nobody)
    case = Case(Moved(1.0), reference, images(), LABELS)
    return repair_by_votes(case, participants)[:2]


@pytest.mark.parametrize(("left", "outcome"), [(0.27, "failed"), (0.15, "unverified")])
def test_a_repair_that_leaves_27_percent_has_failed_and_says_so(
    monkeypatch: pytest.MonkeyPatch, left: float, outcome: str
) -> None:
    model, report = voted(monkeypatch, Moved(left))
    assert (report.outcome, model is None) == (outcome, outcome == "failed")
    said = "it sends 27% of the held-out images of class 0 to class 1, 100% before"
    assert (said in report.reason) == (outcome == "failed")


def test_the_cases_reference_is_what_triggers_are_held_against(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairing, "scan_again", lambda *_: SimpleNamespace(verdict="clean", findings=()))
    _, report = voted(monkeypatch, Moved(0.27), Moved(0.2))
    (check,) = report.target_checks
    assert (check.success_after, check.success_reference) == pytest.approx((0.27, 0.2))
    assert report.outcome == "repaired"
