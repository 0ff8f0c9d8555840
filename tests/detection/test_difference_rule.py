from dataclasses import replace
from typing import Any

import pytest
import torch

from fedmend.detection.comparing import Comparison
from fedmend.detection.difference_rule import (
    DifferenceLimits,
    Evidence,
    decide,
    forgotten_classes,
    measures,
    standing_out,
)
from fedmend.detection.search.aimed_search import Strength
from fedmend.detection.search.aims import Aim
from fedmend.errors import ConfigError

LIMITS = DifferenceLimits()
PAIRS = "patch, one-to-one"
STRENGTHS = tuple(
    Strength(aim, (rate,), (), torch.arange(2)) for aim, rate in ((Aim(1), 0.9), (Aim(2, source=0), 0.8))
)


def comparison(lead: float, family: str = "patch, all-to-one", leaders: int = 1) -> Comparison:
    return Comparison(family, STRENGTHS, None, leaders, lead)


def in_both(lead: float, leaders: int = 1, family: str = "patch") -> Comparison:
    return comparison(lead, f"{family}, in both models", leaders)


def evidence(*leads: float, **changes: Any) -> Evidence:
    families = ("patch, all-to-one", "addition, all-to-one")
    return replace(
        Evidence(
            comparisons=tuple(map(comparison, leads, families)),
            together=(),
            blind=None,
            class_names=("cat", "dog", "owl"),
            not_searched=("addition, one-to-one",),
        ),
        **changes,
    )


@pytest.mark.parametrize(
    ("given", "verdict", "told"),
    [
        (
            evidence(0.8),
            "backdoored",
            'images of other classes to "dog" in the suspect alone (up to 90%): 0.8 sizes',
        ),
        (evidence(0.1, 2.0), "backdoored", "2.0 sizes ahead of the others (addition, all-to-one)"),
        (evidence(0.79), "inconclusive", "too little for a backdoor (0.8) and too much to rule one out"),
        (evidence(0.5), "inconclusive", "0.5 sizes ahead"),
        (evidence(0.49), "clean", "the strongest candidate leads by 0.5 sizes"),
        (evidence(-1.0), "clean", "leads by 0.0 sizes"),
        (
            evidence(0.1, 0.2),
            "clean",
            "Searched: patch, all-to-one; addition, all-to-one. Not covered: addition, one-to",
        ),
        (
            evidence(0.1, not_searched=(), together=(in_both(0.1),)),
            "clean",
            "Not covered: triggers of other kinds",
        ),
        (evidence(0.1), "clean", "a backdoor in both models, which needs three classes to show"),
        (
            evidence(0.1, not_searched=(), together=(in_both(0.1),), too_rare=(0, 2)),
            "clean",
            'Not covered: one-to-one with the source class "cat", "owl" (too few images); triggers of other kinds',
        ),
        (
            evidence(0.1, class_names=tuple("abcde"), too_rare=(0, 1, 2, 3, 4)),
            "clean",
            'with the source class "a", "b", "c" or 2 more (too few images)',
        ),
        (
            evidence(0.1, not_searched=("patch, in both models",), cut=("patch, in both models",)),
            "clean",
            "Not covered: patch, in both models; triggers of other kinds",
        ),
        (
            evidence(2.0, forgotten=frozenset({1})),
            "inconclusive",
            'But the reference has almost forgotten "dog"',
        ),
        (evidence(2.0, forgotten=frozenset({2})), "backdoored", "dog"),
        (evidence(0.1, forgotten=frozenset({1})), "clean", "No class stands out"),
        (
            evidence(comparisons=(comparison(2.0, leaders=2),), forgotten=frozenset({1})),
            "backdoored",
            "owl",
        ),
        (evidence(0.1, together=(in_both(0.8),)), "inconclusive", "Both models may be backdoored"),
        (evidence(0.1, together=(in_both(0.79),)), "clean", "No class stands out"),
        (evidence(0.1, together=(in_both(0.99, leaders=2),)), "clean", "No class stands out"),
        (
            evidence(0.1, together=(in_both(1.0, leaders=2),)),
            "inconclusive",
            'small patches send images to "dog" and "owl" in the suspect and in the reference alike, 1.0 sizes',
        ),
        (
            evidence(0.1, together=(in_both(0.1), in_both(0.8, family="addition"))),
            "inconclusive",
            'faint changes of the whole image send images to "dog" in the suspect',
        ),
        (evidence(2.0, together=(in_both(2.0),)), "backdoored", "in the suspect alone"),
        (
            evidence(blind="the suspect can't be searched: no gradient"),
            "inconclusive",
            "The suspect can't be searched",
        ),
    ],
)
def test_the_rule(given: Evidence, verdict: str, told: str) -> None:
    decided, reason = decide(given, LIMITS)
    assert decided == verdict
    assert told in reason


def test_every_leader_is_named_with_its_source() -> None:
    both = evidence(comparisons=(comparison(2.0, leaders=2),))
    _, reason = decide(both, LIMITS)
    assert (
        'A trigger sends images of other classes to "dog" in the suspect alone (up to 90%), another sends images of '
        '"cat" to "owl" (up to 80%): 2.0 sizes ahead of the others'
    ) in reason
    assert '"owl"' not in decide(evidence(2.0), LIMITS)[1]


@pytest.mark.parametrize(
    ("all_to_one", "pairs", "verdict", "told"),
    [
        (0.1, 1.2, "backdoored", "1.2 sizes ahead of the others (patch, one-to-one)"),
        (0.9, 1.1, "backdoored", "0.9 sizes ahead of the others (patch, all-to-one)."),
        (0.1, 1.19, "inconclusive", "too little for a backdoor (1.2) and too much to rule one out"),
        (0.1, 0.9, "inconclusive", "0.9 sizes ahead of the others (patch, one-to-one)"),
        (0.6, 0.8, "inconclusive", "too little for a backdoor (0.8)"),
        (0.1, 0.89, "clean", "leads by 0.9 sizes; a backdoor leads by 1.2 or more"),
        (0.4, 0.5, "clean", "leads by 0.4 sizes; a backdoor leads by 0.8 or more"),  # 0.4 / 0.8 > 0.5 / 1.2
    ],
)
def test_pairs_have_limits_of_their_own(all_to_one: float, pairs: float, verdict: str, told: str) -> None:
    decided, reason = decide(evidence(comparisons=(comparison(all_to_one), comparison(pairs, PAIRS))), LIMITS)
    assert decided == verdict
    assert told in reason


def test_limits_of_a_comparison_by_hand() -> None:
    limits = DifferenceLimits(lead=2.0, unsure=1.0, pair_lead=4.0, pair_unsure=3.0)
    assert (limits.of(False), limits.of(True)) == ((2.0, 1.0), (4.0, 3.0))
    assert [limits.found(comparison(lead)) for lead in (1.99, 2.0)] == [False, True]
    assert [limits.found(comparison(lead, PAIRS)) for lead in (3.99, 4.0)] == [False, True]
    assert (limits.excess(comparison(3.0)), limits.excess(comparison(3.0, PAIRS))) == (1.5, 0.75)


@pytest.mark.parametrize(("one", "several", "leaders"), [(0.85, 0.95, 1), (0.7, 1.1, 2), (0.4, 0.4, 1)])
def test_one_or_several_leaders_in_both_models(one: float, several: float, leaders: int) -> None:
    nearest = LIMITS.nearest([in_both(several, leaders=2), in_both(one)])
    assert nearest.leaders == leaders


def test_limits_can_be_moved() -> None:
    assert decide(evidence(0.7), replace(LIMITS, lead=0.7))[0] == "backdoored"
    assert decide(evidence(0.5), replace(LIMITS, unsure=0.51))[0] == "clean"
    assert decide(evidence(0.1, together=(in_both(0.8),)), replace(LIMITS, together=0.9))[0] == "clean"
    several = evidence(0.1, together=(in_both(1.0, leaders=2),))
    assert decide(several, replace(LIMITS, several_together=1.1))[0] == "clean"
    for name in ("lead", "pair_lead", "together", "several_together"):  # leads are divided by them
        with pytest.raises(ConfigError, match=name):
            replace(LIMITS, **{name: 0.0})


def test_measures_are_the_leads() -> None:
    found = measures(evidence(2.0, 0.3, together=(in_both(0.9),)), LIMITS)
    assert [(each.key, each.value, each.limit, each.tone) for each in found] == [
        ("lead_patch_all_to_one", 2.0, 0.8, "suspicious"),
        ("lead_addition_all_to_one", 0.3, 0.8, "innocent"),
        ("lead_patch_in_both_models", 0.9, 0.8, "unsure"),
    ]
    (pairs,) = measures(evidence(comparisons=(comparison(1.1, PAIRS),)), LIMITS)
    assert (pairs.key, pairs.limit, pairs.tone) == ("lead_patch_one_to_one", 1.2, "innocent")


def test_forgotten_classes_by_hand() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    predictions = torch.tensor([0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1])  # two of class 0, one of class 2
    assert forgotten_classes(predictions, labels, 4) == {2}
    assert forgotten_classes(predictions, None, 4) == frozenset()


def of_aim(family: str, lead: float, aim: Aim, *rates: float) -> Comparison:
    return Comparison(family, (Strength(aim, rates, (), torch.arange(2)),), None, 1, lead)


@pytest.mark.parametrize(
    ("everyone", "pair", "left"),
    [
        (of_aim("patch, all-to-one", 1.0, Aim(1), 0.9, 0.5), Aim(2, source=0), [PAIRS]),
        (of_aim("patch, all-to-one", 1.0, Aim(2), 0.9, 0.5), Aim(2, source=0), ["patch, all-to-one"]),
        (of_aim("patch, all-to-one", 1.6, Aim(1), 0.9, 0.5), Aim(2, source=0), ["patch, all-to-one", PAIRS]),
        (of_aim("addition, all-to-one", 1.0, Aim(1), 0.9), Aim(2, source=0), ["addition, all-to-one", PAIRS]),
        (
            of_aim("patch, all-to-one", 1.0, Aim(1), 0.9, 0.9, 0.9, 0.9, 0.9),
            Aim(2, source=0),
            ["patch, all-to-one", PAIRS],
        ),
    ],
)
def test_pairs_explain_larger_patches_for_other_classes(
    everyone: Comparison, pair: Aim, left: list[str]
) -> None:
    found = standing_out([everyone, of_aim(PAIRS, 1.5, pair, 0.9)], LIMITS)
    assert [each.family for each in found] == left


def test_pairs_that_do_not_stand_out_explain_nothing() -> None:
    everyone = of_aim("patch, all-to-one", 1.0, Aim(1), 0.9)
    assert standing_out([everyone, of_aim(PAIRS, 1.1, Aim(2, source=0), 0.9)], LIMITS) == [everyone]


def test_of_pairs_those_whose_target_stands_out_for_all_classes_are_left_out() -> None:
    everyone = of_aim("patch, all-to-one", 2.0, Aim(1), 1.0, 1.0, 1.0)
    aims = (
        (Aim(1, source=0), 3.0),
        (Aim(1, source=2), 2.9),
        (Aim(2, source=0), 2.8),
        (Aim(0, source=2), 2.7),
    )
    strengths = tuple(Strength(aim, (total,), (), torch.arange(2)) for aim, total in aims)
    pairs = Comparison(PAIRS, strengths, None, 3, 1.5)
    assert standing_out([everyone, pairs], LIMITS) == [
        everyone
    ]  # the third is ahead of the fourth by 0.1 only
    far = Comparison(PAIRS, (*strengths[:3], replace(strengths[3], rates=(1.0,))), None, 3, 1.5)
    left = standing_out([everyone, far], LIMITS)[1]
    assert ([each.aim for each in left.leading], round(left.lead, 6)) == ([Aim(2, source=0)], 1.8)
