import math
from typing import Any

import pytest

from fedmend.repairs.gate import Evidence, Gate
from fedmend.repairs.judging import judge
from fedmend.repairs.repair_report import TargetCheck

DONE = "Something was done"


def evidence(**changes: Any) -> Evidence:
    values = {
        "accuracy_before": 1.0,
        "accuracy_after": 1.0,
        "num_judged": 100,
        "num_heldout": 100,
        "verdict_after": "clean",
    }
    return Evidence(**(values | changes))


def check(after: float, before: float = 0.9, sources: tuple[int, ...] = ()) -> TargetCheck:
    return TargetCheck(1, sources, before, after)


def test_what_holds_is_released() -> None:
    outcome, reason = judge(Gate(), evidence(target_checks=(check(0.1),)), DONE)
    assert outcome == "repaired"
    assert reason == (
        "Something was done; clean accuracy on held-out images went from 100.0% to 100.0%. The best trigger found sent "
        "90% of the held-out images of other classes to class 1 before and sends 10% now. A new scan finds no backdoor."
    )


def test_classes_are_named_where_the_names_are_known() -> None:
    names = ("cat", "dog", "owl")
    for after, said in (
        (0.1, ("The best trigger found sent 90% of", "The other one now sends 10% of")),
        (0.6, ("it sends 60% of", "(60% of")),
    ):
        found = evidence(target_checks=(check(after, sources=(0, 2)), check(after, 0.8, (0, 2))))
        _, reason = judge(Gate(), found, DONE, names)
        assert all(each in reason for each in said)
        assert reason.count('"cat", "owl" to "dog"') == 2
        assert "class 1" not in reason


@pytest.mark.parametrize(("after", "said"), [(0.95, True), (0.9, True), (0.96, False)])
def test_a_reference_that_is_as_accurate_is_named(after: float, said: bool) -> None:
    _, reason = judge(
        Gate(), evidence(accuracy_before=0.9, accuracy_after=after, accuracy_reference=0.95), DONE
    )
    assert ("The reference is as accurate (95.0%), so going back to it loses nothing." in reason) is said


@pytest.mark.parametrize(
    ("after", "error", "outcome"),
    [(0.99, 0.0, "repaired"), (0.98, 0.0, "failed"), (0.98, 0.01, "repaired"), (0.97, 0.01, "failed")],
)
def test_the_limit_itself_and_a_standard_error_are_allowed(after: float, error: float, outcome: str) -> None:
    """1.0 - 0.99 is more than 0.01 in floating point."""
    found, reason = judge(Gate(), evidence(accuracy_after=after, accuracy_error=error), DONE)
    assert found == outcome
    assert ("allowed is 1.0%" in reason) == (outcome == "failed")


def test_a_scan_that_overlooks_what_was_found_verifies_nothing() -> None:
    outcome, reason = judge(Gate(), evidence(overlooked="too few images"), DONE)
    assert outcome == "unverified"
    assert "as was found before: too few images. Use more images" in reason


@pytest.mark.parametrize("verdict", ["backdoored", "inconclusive"])
def test_what_a_new_scan_does_not_find_clean_is_not_released(verdict: Any) -> None:
    outcome, reason = judge(Gate(), evidence(verdict_after=verdict), DONE)
    assert outcome == "failed"
    assert f"the new scan's verdict is {verdict}" in reason


def test_without_a_new_scan_nothing_is_called_repaired() -> None:
    outcome, reason = judge(Gate(), evidence(verdict_after=None), DONE)
    assert outcome == "unverified"
    assert "No new scan was made, so nothing verified that the backdoor is gone" in reason


@pytest.mark.parametrize(("after", "outcome"), [(0.49, "repaired"), (0.5, "failed")])
def test_one_trigger_that_still_works_is_enough_to_fail(after: float, outcome: str) -> None:
    checks = (check(0.0), check(after, 0.8, (3,)), check(0.2))
    found, reason = judge(Gate(), evidence(target_checks=checks), DONE)
    assert found == outcome
    still = f"it sends {after:.0%} of the held-out images of class 3 to class 1, 80% before"
    assert (still in reason) == (outcome == "failed")


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ((), "80% before; clean accuracy"),
        ((check(0.6),), "80% before; 1 other still works (60% of other classes to class 1); clean accuracy"),
        (
            (check(0.6), check(0.49), TargetCheck(2, (7,), 0.9, 0.8, 1, 0.1)),
            "80% before; 2 others still work (80% of class 7 to class 2 and 10% in the clean reference, 60% of other "
            "classes to class 1); clean accuracy",
        ),
        (
            tuple(check(0.5 + number / 100) for number in range(5)),
            "80% before; 5 others still work (54% of other classes to class 1, 53% of other classes to class 1, 52% of "
            "other classes to class 1, and 2 more); clean accuracy",
        ),
    ],
    ids=["none", "one", "two", "many"],
)
def test_other_triggers_that_still_work_are_counted_and_named(
    others: tuple[TargetCheck, ...], said: str
) -> None:
    checks = (*others, check(0.75, 0.8, (3,)))
    _, reason = judge(Gate(), evidence(target_checks=checks), DONE)
    assert (
        f"a found trigger still works: it sends 75% of the held-out images of class 3 to class 1, {said}"
        in reason
    )


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (
            (check(0.3, 0.8),),
            "sends 10% now. The other one now sends 30% of the held-out images of other classes",
        ),
        (
            (check(0.2, 0.7), check(0.3, 0.8, (3,))),
            "sends 10% now. Of the 2 others, the best now sends 30% of the held-out images of class 3 to class 1. ",
        ),
    ],
    ids=["one", "two"],
)
def test_what_other_triggers_do_in_a_model_that_passes_is_said(
    others: tuple[TargetCheck, ...], said: str
) -> None:
    outcome, reason = judge(Gate(), evidence(target_checks=(*others, check(0.1))), DONE)
    assert outcome == "repaired"
    assert said in reason


def test_what_clients_report_is_called_so() -> None:
    _, reason = judge(Gate(), evidence(num_judged=0, num_heldout=0, accuracy_after=0.5), DONE)
    assert "clean accuracy as the clients report it went from 100.0% to 50.0%" in reason


@pytest.mark.parametrize(
    ("held_out", "said"),
    [(0, "on the images that also chose the model"), (60, "on 100 images, 60 of them held out,")],
)
def test_images_that_chose_the_model_are_not_called_held_out(held_out: int, said: str) -> None:
    for after, success in ((1.0, 0.1), (0.5, 0.1), (1.0, 0.9)):
        found = evidence(num_heldout=held_out, accuracy_after=after, target_checks=(check(success),))
        _, reason = judge(Gate(), found, DONE)
        assert f"clean accuracy {said} went from" in reason
        assert "held-out" not in reason


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize(
    "name", ["accuracy_before", "accuracy_after", "accuracy_error", "after", "before", "reference"]
)
def test_a_figure_that_is_not_finite_fails(name: str, wrong: float) -> None:
    changes: dict[str, Any] = {name: wrong}
    if name == "reference":
        changes = {"target_checks": (TargetCheck(1, (), 0.9, 0.1, 1, wrong), check(0.0))}
    if name in ("after", "before"):
        changes = {"target_checks": (check(**({"after": 0.1} | {name: wrong})), check(0.0))}
    outcome, reason = judge(Gate(), evidence(**changes), DONE)
    assert outcome == "failed"
    assert "NaN or infinite" in reason


def test_a_flaw_fails() -> None:
    outcome, reason = judge(Gate(), evidence(flaw="it is upside down"), DONE)
    assert (outcome, reason) == (
        "failed",
        "Something was done, but it is upside down. Go back to an earlier round's model.",
    )
