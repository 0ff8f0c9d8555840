from dataclasses import replace

import pytest
import torch

from fedmend.detection.comparing import compare
from fedmend.detection.search.aimed_search import Strength
from fedmend.detection.search.aims import Aim


def strengths(*rates: tuple[float, ...]) -> list[Strength]:
    """Of targets 0, 1, ..., with these rates at each size."""
    return [Strength(Aim(target), each, (), torch.arange(2)) for target, each in enumerate(rates)]


def of_pairs(*given: tuple[int, int, float]) -> list[Strength]:
    """From target, source and total."""
    return [Strength(Aim(target, source), (total,), (), torch.arange(2)) for target, source, total in given]


def test_a_strength_is_the_sum_of_the_rates_at_each_size() -> None:
    assert strengths((1.0, 0.75, 0.25))[0].total == 2.0
    assert strengths(())[0].total == 0.0


@pytest.mark.parametrize(
    ("found", "swapped", "most", "lead", "leaders"),
    [
        ([(1.0, 1.0, 0.5), (0.5, 0.5)], None, 1, 1.5, 1),  # 2.5 - 1
        ([(1.0, 1.0, 0.5), (0.5, 0.5)], [(1.0, 0.75), (1.0,)], 1, 0.75, 1),  # 2.5 - 1.75
        ([(1.0, 0.5), (0.5,)], [(1.0, 1.0)], 1, -0.5, 1),  # 1.5 - 2
        ([(1.0, 1.0), (1.0, 0.75), (0.25,)], None, 1, 0.25, 1),  # 2 - 1.75
        ([(1.0, 1.0), (1.0, 0.75), (0.25,)], None, 2, 1.625, 2),  # 1.875 - 0.25
        ([(1.0, 1.0), (1.0, 0.75), (0.25,)], [(1.0, 0.5)], 2, 0.375, 2),  # 1.875 - 1.5
        ([(1.0, 1.0), (1.0, 0.75), (0.25,)], [(1.0, 0.75)], 2, 0.25, 1),  # 2 - 1.75; 1.875 - 1.75 is less
        ([(1.0, 1.0), (1.0, 0.5), (1.0,), ()], None, 2, 0.75, 2),  # 1.75 - 1; 2 - 1.5 is less
        ([(1.0, 1.0), (1.0, 0.5), (1.0,), ()], None, 3, 1.5, 3),  # 1.5 - 0
        ([(1.0, 1.0), (1.0, 0.5), (1.0,), (0.5,)], None, 3, 1.0, 3),  # 1.5 - 0.5
        ([(1.0, 1.0), (1.0, 0.5), (1.25,)], None, 2, 0.5, 2),  # 1.75 - 1.25, as much as 2 - 1.5
        ([(1.0, 1.0), (1.0, 0.75)], None, 2, 0.25, 1),  # not two of two: no other is left to compare with
        ([(1.0, 0.5)], None, 1, 1.5, 1),  # of one alone, the whole
        ([], [(1.0,)], 1, 0.0, 0),
    ],
)
def test_the_lead_by_hand(
    found: list[tuple[float, ...]],
    swapped: list[tuple[float, ...]] | None,
    most: int,
    lead: float,
    leaders: int,
) -> None:
    comparison = compare("patch", strengths(*found), None if swapped is None else strengths(*swapped), most)
    assert (comparison.lead, comparison.leaders) == (lead, leaders)


def test_pairs_with_a_leader_s_target_are_no_rivals() -> None:
    found = of_pairs((1, 0, 2.0), (1, 2, 1.75), (0, 2, 0.5))
    assert (compare("patch", found, None, 1).lead, compare("patch", found, None, 1).others) == (1.5, 0.5)
    assert compare("patch", found[:2], None, 1).lead == 0.25  # where there is no other target, they are


def test_pairs_with_any_of_several_leaders_targets_are_no_rivals() -> None:
    found = of_pairs((1, 0, 2.0), (2, 0, 1.75), (1, 2, 1.5), (2, 1, 1.25), (0, 1, 0.5))
    one, two = (compare("patch", found, None, most) for most in (1, 2))
    assert (one.lead, one.leaders, one.others) == (0.25, 1, 1.75)
    assert (two.lead, two.leaders, two.others) == (1.375, 2, 0.5)  # 1.875 - 0.5


def test_the_family_s_name_says_whether_its_aims_are_pairs() -> None:
    assert compare("patch, one-to-one", [], None, 1).of_pairs
    assert not compare("patch, all-to-one", [], None, 1).of_pairs


def test_the_others_and_the_swapped_search() -> None:
    of_two = compare("patch", strengths((1.0, 1.0), (0.5,)), strengths((0.25,), (1.0,)), 1)
    assert (of_two.family, of_two.others, of_two.swapped_total) == ("patch", 0.5, 1.0)
    alone = compare("patch", strengths((1.0, 1.0)), None, 1)
    assert (alone.others, alone.swapped_total) == (0.0, None)
    assert compare("patch", strengths((1.0,)), [], 1).swapped_total == 0.0


def test_without_some_targets_the_other_leaders_must_lead_alone() -> None:
    found = of_pairs((1, 0, 3.0), (1, 2, 2.5), (2, 0, 2.0), (0, 2, 1.5))
    both = compare("patch, one-to-one", found, of_pairs((1, 0, 0.5)), 3)
    assert (both.leaders, both.lead) == (3, 1.0)  # 2.5 - 1.5
    left = both.without({1})
    assert [each.aim for each in left.leading] == [Aim(2, 0)]
    assert left.lead == 0.5  # 2 - 1.5
    assert compare("patch, one-to-one", found, of_pairs((1, 0, 0.75)), 3).without({1}).lead == 0.5
    assert replace(both, swapped=tuple(of_pairs((1, 0, 1.75)))).without({1}).lead == 0.25  # 2 - 1.75
    assert (both.without({1, 2}).leaders, both.without({1, 2}).lead) == (0, 0.0)
    assert both.without({3}) is both
