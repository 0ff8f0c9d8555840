"""Accuracies that speak for a mistake, by numbers worked out by hand."""

import pytest
import torch
from torch import Tensor

from fedmend.detection.accuracy_rules import (
    explains,
    far_below_reference,
    far_from_expected,
    may_be_explained,
    may_still_explain,
)


def right(count: int, of: int = 100) -> Tensor:
    return torch.arange(of) < count


@pytest.mark.parametrize(("count", "may"), [(90, True), (91, True), (92, False)])
def test_from_nine_errors_on_they_may_have_a_cause(count: int, may: bool) -> None:
    assert may_be_explained(right(count)) == may


@pytest.mark.parametrize(
    ("before", "after", "explained"),
    [
        (80, 92, True),  # 12 more of 100, at least three times the square root of 12
        (80, 88, False),  # 8 more: less than three times the square root of 8
        (40, 54, False),  # 46 of 60 errors are left, more than three quarters
        (40, 55, True),
        (80, 80, False),
        (92, 80, False),
    ],
)
def test_a_change_explains_errors_if_it_removes_a_quarter_and_more_than_chance(
    before: int, after: int, explained: bool
) -> None:
    assert explains(right(before), right(after)) == explained


def test_what_changes_both_ways_may_be_chance() -> None:
    """30 images turn right and 15 wrong: 15 more, and three times the square root of 45 is 20."""
    before = torch.cat([right(60, 60), right(0, 40)])
    after = torch.cat([right(45, 60), right(30, 40)])
    assert not explains(before, after)
    assert explains(torch.cat([right(60, 60), right(0, 40)]), torch.cat([right(60, 60), right(15, 40)]))


@pytest.mark.parametrize(
    ("better", "worse", "may"),
    [
        (0, 0, False),  # nothing differs, and 5 of 100 should be gained
        (1, 0, False),
        (2, 0, False),
        (3, 0, True),  # at least 5 less twice the square root of 3, which is 3.5
        (8, 8, True),  # nothing gained of 16 that differ: twice the square root of 16 is 8
        (4, 16, False),  # 12 lost: more than twice the square root of 20, 9, less 5
    ],
)
def test_a_change_is_given_up_where_its_gain_is_too_small_for_bad_luck(
    better: int, worse: int, may: bool
) -> None:
    before, after = right(50), right(50)
    after[50 : 50 + better] = True
    after[:worse] = False
    assert may_still_explain(before, after) == may


def test_less_than_expected_is_told_beyond_five_points_and_two_standard_errors() -> None:
    """0.9 on 100 images has a standard error of 0.03: 0.79 is the limit."""
    assert list(far_from_expected("model", 0.80, 0.9, 100)) == []
    assert len(list(far_from_expected("model", 0.78, 0.9, 100))) == 1


def test_a_suspect_may_be_somewhat_below_the_reference() -> None:
    """0.9 and 0.6 on 400 images: a fall of 0.30, and 0.15 plus three times 0.029 are allowed."""
    assert len(list(far_below_reference(0.6, 0.9, 400))) == 1
    assert list(far_below_reference(0.7, 0.9, 400)) == []
