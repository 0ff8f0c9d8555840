"""What clients report of their triggers' success in the repaired model, and what becomes of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from fedmend.detection import FoundTrigger
from fedmend.repairs.repair_report import TargetCheck
from fedmend.repairs.trigger_reports import TriggerReports, reported_checks
from fedmend.triggers import Patch

NAN = math.nan


def told(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_median_of_those_that_hold_the_class() -> None:
    reports = TriggerReports(3, 5)
    for client, report in enumerate(
        [told(0.1, NAN, NAN), told(0.3, 0.9, NAN), told(0.2, NAN, NAN), told(NAN, 0.5, NAN)]
    ):
        assert reports.add(client, report) is None
    assert reports.medians() == [pytest.approx(0.2), pytest.approx(0.7), None]
    assert (reports.counted, reports.missing) == (4, 1)


def test_a_lying_minority_of_the_holders_changes_little() -> None:
    reports = TriggerReports(1, 5)
    for client, rate in enumerate((0.27, 0.26, 0.28, 0.0, 0.0)):
        reports.add(client, told(rate))
    assert reports.medians() == [pytest.approx(0.26)]


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (told(0.1), "success rates of the wrong length or kind"),
        (None, "success rates of the wrong length or kind"),
        (torch.tensor([0, 1]), "success rates of the wrong length or kind"),
        (told(0.1, 1.1), "success rates below 0 or above 1"),
        (told(-0.1, 0.5), "success rates below 0 or above 1"),
        (told(math.inf, 0.5), "success rates below 0 or above 1"),
    ],
    ids=["short", "none", "integers", "above", "below", "infinite"],
)
def test_what_is_wrong_is_refused(report: Any, reason: str) -> None:
    reports = TriggerReports(2, 2)
    assert reports.add(0, report) == reason
    assert reports.add(1, told(0.5, 0.5)) is None
    assert reports.medians() == [0.5, 0.5]


def test_without_a_report_nothing_is_known() -> None:
    assert TriggerReports(2, 3).medians() == [None, None]


def found(source: int, target: int, rate: float) -> FoundTrigger:
    return FoundTrigger(Patch(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)), source, target, rate)


def test_of_a_pair_of_classes_the_trigger_that_works_best_afterwards_counts() -> None:
    triggers = [found(9, 1, 1.0), found(9, 1, 0.8), found(7, 1, 0.9), found(2, 3, 1.0)]
    assert reported_checks(triggers, [0.1, 0.27, 0.0, None]) == (
        TargetCheck(1, (9,), 0.8, 0.27, triggers=2),
        TargetCheck(1, (7,), 0.9, 0.0),
    )
    assert reported_checks([], []) == ()


def test_with_a_reference_the_trigger_that_exceeds_it_most_counts() -> None:
    """The first works on most of the class in any model; nobody said how the last does in the reference."""
    triggers = [found(9, 1, 1.0), found(9, 1, 0.8), found(2, 3, 1.0)]
    assert reported_checks(triggers, [0.9, 0.27, 0.1], [0.8, 0.02, None]) == (
        TargetCheck(1, (9,), 0.8, 0.27, 2, 0.02),
        TargetCheck(3, (2,), 1.0, 0.1),
    )
