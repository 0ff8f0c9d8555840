"""From one number of every class to a finding."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fedmend.detection.anomaly_index import anomaly
from fedmend.detection.base import measured
from fedmend.detection.finding_checks import check_finding
from fedmend.detection.outlier_rule import Compared, judged
from fedmend.triggers import Patch

NAMES = ("cat", "dog", "owl", "fox", "elk")
PATCHES = [Patch(torch.full((1, 2, 2), number / 8), torch.rand(1, 2, 2)) for number in range(5)]


def compared(values: list[float], eligible: tuple[bool, ...] = (True,) * 5) -> Compared:
    numbers = torch.tensor(values)
    return Compared(
        "the size", "pixels", numbers, torch.tensor(eligible), anomaly(numbers), 2.0, NAMES.__getitem__
    )


def test_a_class_beyond_the_limit_and_below_the_median_is_flagged() -> None:
    finding = judged("sizes", compared([4.0, 20.0, 22.0, 24.0, 26.0]), PATCHES, lambda number: 0.9)
    # The median is 22, the distances 18, 2, 0, 2, 4, and their median 2.
    assert finding.suspicious == pytest.approx(18 / (2 * 1.4826))
    assert (finding.verdict, finding.limit) == ("backdoored", 2.0)
    assert '"cat" (4 pixels, anomaly index 6.1)' in finding.reason
    (target,) = finding.targets
    assert (target.target, target.success) == (0, 0.9)
    assert target.trigger is not None
    assert isinstance(target.trigger, Patch)
    assert torch.equal(target.trigger.mask, PATCHES[0].mask)
    edge = measured(finding, "class_0")
    assert edge is not None
    assert (edge.value, edge.limit, edge.tone) == (4, pytest.approx(22 - 2 * 2 * 1.4826), "suspicious")
    assert [measure.tone for measure in finding.measures] == ["suspicious", "suspicious", *["innocent"] * 4]
    check_finding(finding, "sizes", 5)


def test_several_are_named_the_furthest_first() -> None:
    finding = judged("sizes", compared([9.0, 4.0, 22.0, 24.0, 23.0]), PATCHES, lambda number: 1.0)
    # The median is 22, the distances 13, 18, 0, 2, 1, and their median 2.
    assert [target.target for target in finding.targets] == [1, 0]


def test_an_outlier_above_the_median_is_none() -> None:
    finding = judged("sizes", compared([20.0, 21.0, 22.0, 23.0, 90.0]), PATCHES, lambda number: 1.0)
    assert (finding.verdict, finding.targets) == ("clean", ())
    assert finding.suspicious == pytest.approx(2 / 1.4826)
    assert 'the lowest is "cat"' in finding.reason
    assert {measure.tone for measure in finding.measures} == {"innocent"}


def test_a_class_whose_trigger_does_not_work_is_not_flagged() -> None:
    eligible = (False, True, True, True, True)
    finding = judged("sizes", compared([4.0, 20.0, 22.0, 24.0, 26.0], eligible), PATCHES, lambda number: 1.0)
    assert finding.verdict == "clean"
    assert finding.suspicious == pytest.approx(2 / (2 * 1.4826))
    assert measured(finding, "class_0").reading == "No trigger that works was found."  # type: ignore[union-attr]


def test_numbers_that_cannot_be_compared_are_inconclusive_and_say_why() -> None:
    finding = judged("sizes", compared([4.0, 22.0, 22.0, 22.0, 26.0]), PATCHES, lambda number: 1.0)
    assert finding.verdict == "inconclusive"
    assert math.isnan(finding.suspicious)
    assert "spread is 0" in finding.reason
    assert {measure.tone for measure in finding.measures} == {"unsure"}
    check_finding(finding, "sizes", 5)


def test_a_search_that_failed_for_every_class_says_nothing() -> None:
    finding = judged(
        "sizes", compared([4.0, 20.0, 22.0, 24.0, 26.0], (False,) * 5), PATCHES, lambda number: 0.0
    )
    assert (finding.verdict, finding.targets) == ("inconclusive", ())
    assert math.isnan(finding.suspicious)
    assert "no trigger that works was found for any class" in finding.reason
    assert {measure.tone for measure in finding.measures} == {"unsure"}


def test_the_limit_counts() -> None:
    strict = replace(compared([4.0, 20.0, 22.0, 24.0, 26.0]), limit=6.2)
    assert judged("sizes", strict, PATCHES, lambda number: 1.0).verdict == "clean"
