"""What follows a scan that finds something, by networks whose backdoor is a number: the guard's repairs."""

from collections.abc import Callable
from typing import Any

import pytest
from guarded_nets import assert_rolled_back, net, same
from torch import nn

from fedmend.guard import Guard
from fedmend.guard.own_images import OwnImages

Make = Callable[..., Guard]
BACKDOORED, CLEAN = 2.0, 0.0


def test_a_repaired_model_is_scanned_again_and_released(guard: Make) -> None:
    made = guard(repair="guarded_nets:Unmark")
    decision = made.review(net(BACKDOORED, seed=1), 1)
    assert (decision.action, decision.verdict) == ("repair", "backdoored")
    assert same(decision.released, net(CLEAN, seed=1))
    (again,) = decision.evidence["rescans"]
    assert again["verdict"] == "clean"
    assert made.last_accepted is not None
    assert made.last_accepted.verdict == "backdoored"
    assert decision.evidence["digests"]["output"] == made.last_accepted.stored.weights


@pytest.mark.parametrize(
    ("repair", "why"),
    [
        pytest.param({"left": 2.0}, "new scan's verdict is backdoored", id="the gate finds it again"),
        pytest.param({"wrong": 2.0}, "a drop of", id="too much accuracy lost for the gate"),
    ],
)
def test_a_repair_that_failed_is_not_released(guard: Make, repair: dict[str, float], why: str) -> None:
    made = guard(repair={"kind": "guarded_nets:Unmark"} | repair)
    decision = made.review(net(BACKDOORED, seed=1), 1)
    assert_rolled_back(decision, "backdoored", net())
    assert why in decision.reason
    assert decision.evidence["repair"]["outcome"] == "failed"


def test_without_a_trigger_to_unlearn_no_repair_is_tried(guard: Make) -> None:
    """Of an inconclusive scan it would be untrue that it found a backdoor."""
    decision = guard(detectors=("guarded_nets:MarkedAlone",), repair="unlearn").review(
        net(BACKDOORED, seed=1), 1
    )
    assert_rolled_back(decision, "backdoored", net())
    assert (
        "The mark was read. No repair was tried: The scan recovered no trigger to unlearn" in decision.reason
    )


def test_a_repair_below_the_floor_is_not_released(guard: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([1.0, 1.0, 0.8])  # the trusted model, the candidate, the repaired one
    monkeypatch.setattr("fedmend.guard.own_images.OwnImages.accuracy", lambda *_: next(measured))
    decision = guard(repair="guarded_nets:Unmark", accuracy_floor=0.9).review(net(BACKDOORED, seed=1), 1)
    assert_rolled_back(decision, "backdoored", net())
    assert (
        "The repaired model gets 80.0% of the guard's other images right; the floor is 90.0%."
        in decision.reason
    )


@pytest.mark.parametrize(("after", "action"), [(0.89, "rollback"), (0.9, "repair")])
def test_a_repaired_model_worse_than_the_last_accepted_one_is_not_released(
    guard: Make, monkeypatch: pytest.MonkeyPatch, after: float, action: str
) -> None:
    """However much better than the candidate it is: going back to the last one gives more."""
    measured = iter([0.9, 0.8, after, 0.9])  # the first two, the repaired one, the first again
    monkeypatch.setattr("fedmend.guard.own_images.OwnImages.accuracy", lambda *_: next(measured))
    decision = guard(repair="guarded_nets:Unmark").review(net(BACKDOORED, seed=1), 1)
    assert decision.action == action
    if action == "rollback":
        assert_rolled_back(decision, "backdoored", net())
        assert (
            "gets 89.0% of the guard's other images right, less than the model given at the start (90.0%)"
            in (decision.reason)
        )


@pytest.mark.parametrize(("after", "action"), [(0.84, "rollback"), (0.85, "repair")])
def test_a_repaired_model_is_compared_with_the_model_to_which_the_federation_would_go_back(
    guard: Make, monkeypatch: pytest.MonkeyPatch, after: float, action: str
) -> None:
    """Not with a later one, which isn't trusted any more."""
    made = guard(repair="guarded_nets:Unmark", older_references=(5,), accuracy_drop=0.05)
    assert made.review(net(0.45, seed=1), 1).action == "accept"
    given, later = 0.85, 0.95
    measured = iter([later, after, given])  # the candidate, the repaired one, the given one
    monkeypatch.setattr("fedmend.guard.own_images.OwnImages.accuracy", lambda *_: next(measured))
    decision = made.review(net(1.2, seed=2), 2)
    assert (decision.action, decision.verdict) == (action, "backdoored")
    assert decision.evidence["accuracy"]["released"] == (1.0 if action == "rollback" else after)
    if action == "rollback":
        assert_rolled_back(decision, "backdoored", net())
        assert "less than the model given at the start (85.0%), to which" in decision.reason


@pytest.mark.parametrize(("per_class", "count"), [(5, 32), (9, 36)])
def test_a_repair_gets_more_images_than_a_scan(
    guard: Make, monkeypatch: pytest.MonkeyPatch, per_class: int, count: int
) -> None:
    from fedmend.guard import scan_rules

    counts: list[int] = []

    def counted(case: Any, report: Any, *_: Any, **__: Any) -> tuple[nn.Module | None, Any]:
        counts.append(len(case.images))
        assert report.num_images == 4 * per_class
        assert case.reference is not None
        return real(case, report, *_, **__)

    real = scan_rules.repair
    monkeypatch.setattr(scan_rules, "repair", counted)
    monkeypatch.setattr(scan_rules, "_REPAIR_IMAGES", 32)
    guard(repair="guarded_nets:Unmark", images_per_class=per_class).review(net(BACKDOORED, seed=1), 1)
    assert counts == [count]


def test_the_guards_own_new_scan_counts_too(guard: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the gate of the repair let a model pass."""
    from fedmend.guard import scan_rules

    passed: list[str] = []

    def careless(case: Any, report: Any, *_: Any, **__: Any) -> tuple[nn.Module, Any]:
        passed.append(report.verdict)
        model, result = real(case, report, *_, **__)
        assert model is None
        return case.suspect, result

    real = scan_rules.repair
    monkeypatch.setattr(scan_rules, "repair", careless)
    decision = guard(repair={"kind": "guarded_nets:Unmark", "left": 2.0}).review(net(BACKDOORED, seed=1), 1)
    assert passed == ["backdoored"]
    assert_rolled_back(decision, "backdoored", net())
    assert "The repaired model was scanned again and isn't clean" in decision.reason


def test_a_repair_is_judged_as_the_weights_that_are_released(guard: Make) -> None:
    """Its model may do more than these: bend images first, or apply a mask that is no part of them."""
    decision = guard(repair="guarded_nets:Mask").review(net(BACKDOORED, seed=1), 1)
    assert decision.evidence["repair"]["outcome"] == "repaired"
    assert_rolled_back(decision, "backdoored", net())
    assert "The repaired model was scanned again and isn't clean" in decision.reason


def test_a_repaired_model_is_judged_by_images_that_it_did_not_learn_from(
    guard: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repair gets all 40 images, and learns from half of them."""
    counts: list[int] = []

    def counted(images: OwnImages, model: nn.Module) -> float:
        counts.append(len(images.images))
        return 1.0

    monkeypatch.setattr(OwnImages, "accuracy", counted)
    decision = guard(repair="guarded_nets:Unmark").review(net(BACKDOORED, seed=1), 1)
    assert decision.action == "repair"
    assert counts == [40, 40, 20, 20]
