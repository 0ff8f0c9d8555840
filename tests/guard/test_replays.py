"""Weights that were accepted before and come again: what is released, and what the history says of it."""

from collections.abc import Callable
from typing import Any

import pytest
from guarded_nets import Net, net

from fedmend.guard import Decision, Guard, History, digest

Make = Callable[..., Guard]
BACKDOORED = 2.0


def assert_released(made: Guard, decision: Decision, expected: Net) -> None:
    """By the decision, by its evidence, and by the history."""
    released = made.released()
    assert released is not None
    assert decision.released is not None
    names = {digest(decision.released), digest(released), decision.evidence["digests"]["output"]}
    assert names == {digest(expected.state_dict())}
    History(made.history).check()  # type: ignore[arg-type]


@pytest.mark.parametrize("stricter", [{"accuracy_floor": 0.9}, {"accuracy_drop": 0.1}], ids=["floor", "drop"])
def test_an_older_accepted_model_must_pass_the_policy_again(guard: Make, stricter: dict[str, Any]) -> None:
    poor, last = net(seed=1, wrong=2), net(seed=2)
    made = guard({"trusted": None}, warm_up=2)
    for number, candidate in enumerate((poor, last), 1):
        assert made.review(candidate, number).verdict == "warm-up"
    made = guard({"trusted": None}, warm_up=2, **stricter)
    decision = made.review(poor, 3)
    assert (decision.action, decision.verdict) == ("rollback", "below the floor")
    assert_released(made, decision, last)


def test_an_older_accepted_model_is_scanned_again(guard: Make) -> None:
    made = guard({"trusted": None}, warm_up=2)
    marked, last = net(BACKDOORED, seed=1), net(seed=2)
    made.review(marked, 1)
    made.review(last, 2)
    decision = made.review(marked, 3)
    assert (decision.action, decision.verdict) == ("rollback", "backdoored")
    assert_released(made, decision, last)


def test_an_older_model_that_passes_becomes_the_newest_accepted_one(guard: Make) -> None:
    made = guard()
    for number in (1, 2):
        made.review(net(seed=number), number)
    decision = made.review(net(seed=1), 3)
    assert (decision.action, decision.verdict) == ("accept", "clean")
    assert_released(made, decision, net(seed=1))
    assert made.last_accepted is not None
    assert (made.last_accepted.round, made.last_accepted.parent) == (3, 2)
    assert made.review(net(seed=1), 4).verdict == "unchanged"


def test_a_model_is_never_compared_with_itself(guard: Make) -> None:
    made = guard(older_references=(2,))
    made.review(net(seed=1), 1)
    decision = made.review(net(), 2)  # the oldest model, whose turn it is
    assert (decision.action, decision.verdict) == ("accept", "clean")
    assert [each["reference"] for each in decision.evidence["scans"]] == ["round 1's accepted model"]
    assert_released(made, decision, net())


@pytest.mark.parametrize("replayed", [0, 1], ids=["older", "last"])
def test_a_replay_does_not_end_the_count_of_rejections(guard: Make, replayed: int) -> None:
    made = guard(stop_after=2)
    made.review(net(seed=1), 1)
    candidates = (net(BACKDOORED, seed=2), net(seed=replayed), net(BACKDOORED, seed=3))
    decisions = [made.review(candidate, number) for number, candidate in enumerate(candidates, 2)]
    assert [each.action for each in decisions] == ["rollback", "accept", "rollback"]
    assert [each.stop for each in decisions] == [False, False, True]
