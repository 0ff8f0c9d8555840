"""How a guard begins, how often it scans, how far back it compares, and when it stops."""

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from guarded_nets import net
from torch import Tensor

from fedmend.guard import Decision, Guard

Make = Callable[..., Guard]
NAN = torch.tensor(float("nan"))
CLEAN, BACKDOORED = 0.0, 2.0


def mark_of(state: Mapping[str, Tensor] | None) -> float:
    assert state is not None
    return float(state["mark"])


def assert_rolled_back(decision: Decision, verdict: str) -> None:
    """To the trusted model."""
    assert (decision.action, decision.verdict) == ("rollback", verdict)
    assert mark_of(decision.released) == mark_of(decision.continue_from) == 0


# Beginnings


def test_without_a_beginning_nothing_is_trusted(guard: Make) -> None:
    made = guard({"trusted": None})
    for number in (1, 2):  # an attack from round 1 stays out as well as an honest round
        decision = made.review(net(BACKDOORED * (number - 1), seed=number), number)
        assert (decision.action, decision.verdict) == ("rollback", "no trusted reference")
        assert decision.released is None
        assert decision.continue_from is None
        assert "warm_up" in decision.reason
    assert made.last_accepted is None
    assert made.released() is None


def test_the_first_rounds_of_a_warm_up_are_trusted_and_no_more(guard: Make) -> None:
    made = guard({"trusted": None}, warm_up=2)
    verdicts = [
        made.review(net(mark, seed=number), number).verdict for number, mark in enumerate((0.0, 0.0, 2.0), 1)
    ]
    assert verdicts == ["warm-up", "warm-up", "backdoored"]


def test_a_warm_up_accepts_no_broken_model(guard: Make) -> None:
    made = guard({"trusted": None}, warm_up=2)
    decision = made.review(net().state_dict() | {"mark": NAN}, 1)
    assert (decision.action, decision.verdict, decision.released) == ("rollback", "not finite", None)


def test_first_detectors_need_no_reference(guard: Make) -> None:
    made = guard({"trusted": None}, first_detectors=("guarded_nets:MarkedAlone",))
    first = made.review(net(BACKDOORED, seed=1), 1)  # an attack from round 1
    assert (first.action, first.verdict, first.released) == ("rollback", "backdoored", None)
    second = made.review(net(CLEAN, seed=2), 2)
    assert (second.action, second.evidence["scans"][0]["reference"]) == ("accept", None)
    third = made.review(net(0.7, seed=3), 3)
    assert third.evidence["scans"][0]["findings"][0]["detector"] == "marked"


def test_detectors_that_need_no_reference_need_no_beginning(guard: Make) -> None:
    made = guard({"trusted": None}, detectors=("guarded_nets:MarkedAlone",))
    assert made.review(net(CLEAN, seed=1), 1).action == "accept"


# How often, how far back, and when to stop


def test_rounds_between_scans_are_held(guard: Make) -> None:
    made = guard(every=3)
    held = [made.review(net(BACKDOORED, seed=number), number) for number in (1, 2)]
    for decision in held:
        assert (decision.action, decision.verdict) == ("hold", "unchecked")
        assert mark_of(decision.released) == 0
        assert mark_of(decision.continue_from) == BACKDOORED
    assert made.last_accepted is not None
    assert made.last_accepted.round is None
    assert_rolled_back(made.review(net(BACKDOORED, seed=3), 3), "backdoored")


def test_a_broken_model_is_rejected_between_scans_too(guard: Make) -> None:
    assert_rolled_back(guard(every=3).review(net().state_dict() | {"mark": NAN}, 1), "not finite")


def compared_with(decision: Decision) -> list[str]:
    return [each["reference"] for each in decision.evidence["scans"]]


SCANNED_ONCE = (1, 3, 5, 7, 9)  # older references have their turn in even rounds


def slow(made: Guard, rounds: Sequence[int]) -> list[Decision]:
    return [made.review(net(0.3 * mark, seed=mark), number) for mark, number in enumerate(rounds, 1)]


def test_a_slow_backdoor_is_seen_by_an_older_reference(guard: Make) -> None:
    unseen = slow(guard({"history": guard().history.parent / "short"}), range(1, 6))  # type: ignore[union-attr]
    assert [each.action for each in unseen] == ["accept"] * 5
    made = guard(older_references=(4,))
    *accepted, last = slow(made, (*SCANNED_ONCE[:3], 6))
    assert [each.action for each in accepted] == ["accept"] * 3
    assert_rolled_back(last, "backdoored")
    assert "Scanned against the model given at the start" in last.reason
    assert [each["verdict"] for each in last.evidence["scans"]] == ["clean", "backdoored"]
    assert made.last_accepted is not None
    assert made.last_accepted.round is None  # those in between aren't trusted any more
    assert (
        made.review(net(0.3, seed=9), 7).evidence["scans"][0]["reference"] == "the model given at the start"
    )


def test_the_oldest_model_stands_in_for_one_that_is_not_there_yet(guard: Make) -> None:
    made = guard(older_references=(5, 9))
    assert compared_with(made.review(net(seed=1), 2)) == ["the model given at the start"]
    assert compared_with(made.review(net(seed=2), 4)) == [
        "round 2's accepted model",
        "the model given at the start",
    ]


def test_older_references_take_turns_by_scans_and_not_by_rounds(guard: Make) -> None:
    made = guard(older_references=(5,), every=2)
    scans = [len(made.review(net(seed=number), number).evidence["scans"]) for number in range(1, 9)]
    assert scans == [0, 1, 0, 2, 0, 1, 0, 2]


def test_an_older_reference_holds_back_no_more_than_its_turn(guard: Make) -> None:
    """Else one by which no scan can say anything would hold back every candidate from then on."""
    made = guard(older_references=(2,))
    marks = (0.4, 0.8, 0.8)  # the second is inconclusive compared with the first model
    decisions = [made.review(net(mark, seed=number), number) for number, mark in enumerate(marks, 1)]
    assert [each.verdict for each in decisions] == ["clean", "inconclusive", "clean"]
    assert "Scanned against the model given at the start" in decisions[1].reason
    assert mark_of(decisions[1].released) == pytest.approx(0.4)  # nothing is withdrawn


def test_an_older_reference_too_poor_to_compare_with_is_left_out(
    guard: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = iter([0.3, 0.9, 0.9])  # the trusted model is hardly better than chance
    monkeypatch.setattr("fedmend.guard.own_images.OwnImages.accuracy", lambda *_: next(measured))
    made = guard(older_references=(2,))
    decisions = [made.review(net(0.3 * number, seed=number), number) for number in (1, 2)]
    assert [len(each.evidence["scans"]) for each in decisions] == [1, 1]


FORGETFUL = 0.22
"""With it, networks of seeds 1 and 2 still know 4 of 10 images of class 0."""


def test_a_model_that_has_forgotten_a_class_is_no_reference(guard: Make) -> None:
    """Else each later round that knows the class again would look like a backdoor of it."""
    made = guard(older_references=(2,))
    wrong = (FORGETFUL, FORGETFUL, 0, 0)
    decisions = [made.review(net(seed=number, wrong=each), number) for number, each in enumerate(wrong, 1)]
    assert [each.action for each in decisions] == ["accept"] * 4
    assert [compared_with(each) for each in decisions] == [
        ["the model given at the start"],
        ["the model given at the start"],
        ["the model given at the start"],
        ["round 3's accepted model"],  # and not with that of round 2, whose turn it is
    ]


def test_the_last_model_is_the_reference_if_all_have_forgotten_a_class(guard: Make) -> None:
    made = guard({"trusted": net(seed=2, wrong=FORGETFUL)})
    made.review(net(seed=1, wrong=FORGETFUL), 1)
    assert compared_with(made.review(net(), 2)) == ["round 1's accepted model"]


def test_an_older_reference_that_fires_withdraws_models_after_a_repair_too(guard: Make) -> None:
    made = guard(older_references=(4,), repair="guarded_nets:Unmark")
    *_, last = slow(made, (*SCANNED_ONCE[:3], 6))
    assert last.action == "repair"
    assert len(list((made.history / "models").iterdir())) == 2  # type: ignore[operator]
    assert made.last_accepted is not None
    assert (made.last_accepted.round, made.last_accepted.parent) == (6, None)


def test_the_policy_says_when_to_stop(guard: Make) -> None:
    made = guard(stop_after=2)
    marks = (2.0, 0.0, 2.0, 2.0, 2.0)
    stops = [made.review(net(mark, seed=number), number).stop for number, mark in enumerate(marks, 1)]
    assert stops == [False, False, False, True, True]
