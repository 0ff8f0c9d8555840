"""Each rule of the guard, by networks whose backdoor is a number."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from guarded_nets import assert_rolled_back, net, same
from torch import Tensor

from fedmend.errors import DataError
from fedmend.guard import Guard

Make = Callable[..., Guard]
CLEAN, INCONCLUSIVE, BACKDOORED = 0.0, 0.6, 2.0


def test_a_clean_candidate_is_accepted_and_becomes_the_reference(guard: Make) -> None:
    made = guard()
    decision = made.review(net(CLEAN, seed=1), 1)
    assert (decision.action, decision.verdict, decision.stop) == ("accept", "clean", False)
    assert same(decision.released, net(CLEAN, seed=1))
    assert made.last_accepted is not None
    assert (made.last_accepted.round, made.last_accepted.parent) == (1, None)
    again = made.review(net(0.9, seed=2), 2)  # 0.9 above the first
    assert_rolled_back(again, "inconclusive", net(CLEAN, seed=1))
    assert again.evidence["scans"][0]["reference"] == "round 1's accepted model"


def test_a_backdoored_candidate_is_rolled_back(guard: Make) -> None:
    decision = guard().review(net(BACKDOORED, seed=1), 1)
    assert_rolled_back(decision, "backdoored", net())
    assert "Scanned against the model given at the start" in decision.reason
    assert decision.evidence["digests"]["input"] != decision.evidence["digests"]["output"]


@pytest.mark.parametrize("inconclusive", ["rollback", "repair"])
def test_an_inconclusive_scan_never_releases_the_candidate(guard: Make, inconclusive: str) -> None:
    made = guard(inconclusive=inconclusive, repair="guarded_nets:Unmark")
    decision = made.review(net(INCONCLUSIVE, seed=1), 1)
    assert decision.verdict == "inconclusive"
    if inconclusive == "rollback":
        assert_rolled_back(decision, "inconclusive", net())
    else:
        assert decision.action == "repair"
        assert decision.released is not None
        assert float(decision.released["mark"]) == 0


# Before any scan


def broken(name: str, change: Callable[[Tensor], Any]) -> dict[str, Tensor]:
    state = {key: value.clone() for key, value in net(seed=1).state_dict().items()}
    state[name] = change(state[name])
    return state


@pytest.mark.parametrize(
    ("candidate", "verdict", "said"),
    [
        (broken("head.bias", lambda v: v / 0), "not finite", "head.bias"),
        (broken("norm.running_mean", lambda v: v * float("nan")), "not finite", "norm.running_mean"),
        (broken("norm.running_var", lambda v: -v), "not finite", "negative variances in norm.running_var"),
        (
            broken("head.bias", lambda v: v[:3]),
            "wrong shape",
            r"head.bias as torch.float32 (4,); got torch.float32 (3,)",
        ),
        (broken("head.bias", lambda v: v.double()), "wrong shape", "got torch.float64 (4,)"),
        (broken("head.bias", lambda v: v.tolist()), "wrong shape", "got a list"),
        (net().state_dict() | {"extra": torch.zeros(1)}, "wrong shape", "holds extra, which the model lacks"),
        (
            {k: v for k, v in net().state_dict().items() if k != "norm.num_batches_tracked"},
            "wrong shape",
            "lacks norm.n",
        ),
        (7, "wrong shape", "got a int"),
    ],
    ids=[
        "inf",
        "nan-buffer",
        "negative-variance",
        "shape",
        "dtype",
        "no-tensor",
        "extra",
        "missing",
        "no-state",
    ],
)
def test_what_is_no_model_of_the_federation_is_rejected_before_any_scan(
    guard: Make, candidate: Any, verdict: str, said: str
) -> None:
    made = guard(detectors=("guarded_nets:Failing",))  # would say so
    decision = made.review(candidate, 1)
    assert_rolled_back(decision, verdict, net())
    assert said in decision.reason
    assert decision.evidence["scans"] == []
    assert decision.evidence["digests"]["input"] is None


def test_logits_that_overflow_are_not_finite(guard: Make) -> None:
    huge = net(seed=1)
    for parameter in huge.parameters():
        parameter.data.fill_(3e38)
    assert_rolled_back(guard().review(huge, 1), "not finite", net())


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"accuracy_floor": 0.9}, "75.0% of the guard's images right; the floor is 90.0%"),
        ({"accuracy_drop": 0.2}, "allowed is a drop of 20.0%"),
    ],
    ids=["floor", "drop"],
)
def test_a_candidate_below_the_floor_is_rejected(guard: Make, policy: dict[str, float], said: str) -> None:
    decision = guard(**policy).review(net(seed=1, wrong=2), 1)
    assert_rolled_back(decision, "below the floor", net())
    assert said in decision.reason
    assert decision.evidence["accuracy"] == {"candidate": 0.75, "last_accepted": 1.0, "released": 1.0}


def test_a_drop_at_the_limit_is_allowed(guard: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([1.0, 0.99])  # 1.0 - 0.99 is a little more than 0.01
    monkeypatch.setattr("fedmend.guard.own_images.OwnImages.accuracy", lambda *_: next(measured))
    assert guard(accuracy_drop=0.01).review(net(seed=1), 1).action == "accept"


def test_the_weights_of_an_accepted_model_are_accepted_without_a_scan(guard: Make) -> None:
    made = guard(detectors=("guarded_nets:Failing",))
    decision = made.review(net(), 1)
    assert (decision.action, decision.verdict) == ("accept", "unchanged")
    assert made.last_accepted is not None
    assert made.last_accepted.round is None
    assert len(list((made.history / "models").iterdir())) == 1  # type: ignore[operator]


# Scans that don't end well


@pytest.mark.parametrize(
    ("detector", "verdict", "said"),
    [
        ("Failing", "scan failed", "a bug of the detector"),
        ("Leaving", "scan failed", "SystemExit"),
        ("Searching", "time limit", "longer than the limit of 0.3 seconds"),
        ("Silent", "time limit", "longer than the limit of 0.3 seconds"),
    ],
)
def test_a_scan_that_fails_or_takes_too_long_leaves_the_last_accepted_model(
    guard: Make, monkeypatch: pytest.MonkeyPatch, detector: str, verdict: str, said: str
) -> None:
    monkeypatch.setattr("fedmend.guard.time_limit.GRACE", 0.2)
    made = guard(detectors=(f"guarded_nets:{detector}",), time_limit=0.3)
    decision = made.review(net(seed=1), 1)
    assert_rolled_back(decision, verdict, net())
    assert said in decision.reason


def test_choosing_references_is_part_of_the_review_that_must_end(
    guard: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(*_: object) -> frozenset[int]:
        while True:
            time.sleep(0.005)

    monkeypatch.setattr("fedmend.guard.time_limit.GRACE", 0.2)
    monkeypatch.setattr("fedmend.guard.own_images.OwnImages.forgotten", lambda *_: 1 / 0)
    assert_rolled_back(guard().review(net(seed=1), 1), "scan failed", net())
    monkeypatch.setattr("fedmend.guard.own_images.OwnImages.forgotten", endless)
    assert_rolled_back(guard(time_limit=0.3).review(net(seed=2), 2), "time limit", net())


def test_a_damaged_reference_ends_the_review_without_a_decision(guard: Make) -> None:
    made = guard(time_limit=60)
    (file,) = (made.history / "models").iterdir()  # type: ignore[operator]
    file.write_bytes(b"damaged")
    with pytest.raises(DataError, match="is not as the guard wrote it; restore it"):
        made.review(net(seed=1), 1)
    assert made.last_round is None


def test_a_repair_that_takes_too_long_leaves_the_scans_verdict(
    guard: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(*_: Any, progress: Any, **__: Any) -> Any:
        while True:
            progress("repair", 0, 1)

    monkeypatch.setattr("fedmend.guard.scan_rules.repair", endless)
    made = guard(repair="guarded_nets:Unmark", time_limit=2)  # for the scan, on a busy machine
    decision = made.review(net(BACKDOORED, seed=1), 1)
    assert_rolled_back(decision, "backdoored", net())
    assert "No repair came of it: The review took longer" in decision.reason
    assert len(decision.evidence["scans"]) == 1


def test_a_repair_that_fails_leaves_the_scans_verdict(guard: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmend.guard.scan_rules.repair", lambda *_, **__: 1 / 0)
    decision = guard(repair="guarded_nets:Unmark").review(net(BACKDOORED, seed=1), 1)
    assert_rolled_back(decision, "backdoored", net())
    assert "No repair came of it: The review failed: ZeroDivisionError" in decision.reason
