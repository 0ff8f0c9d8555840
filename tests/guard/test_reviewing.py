"""The guard from round to round: the same decisions again, whoever asks, however often it is made anew."""

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from guarded_nets import Net, images, net
from torch import nn

from fedmend.errors import ConfigError, DataError, ModelError
from fedmend.guard import Decision, Guard, GuardPolicy, History, reviewing
from fedmend.guard.own_images import OwnImages

Make = Callable[..., Guard]
MARKS = (0.0, 2.0, 0.3, 0.9, 2.0, 0.4, 0.5)


def timeless(decision: Decision) -> dict[str, Any]:
    return json.loads(json.dumps(decision.to_json()))  # type: ignore[no-any-return]


def decide(
    guard: Make, made: Guard | None = None, repair: str = "guarded_nets:Unmark"
) -> list[dict[str, Any]]:
    """Decisions on seven rounds, by one guard or by a new one for each round."""
    return [
        timeless((made or guard(repair=repair)).review(net(mark, seed=number), number))
        for number, mark in enumerate(MARKS, 1)
    ]


def test_a_guard_that_is_made_again_each_round_decides_the_same(guard: Make, tmp_path: Path) -> None:
    expected = decide(guard, guard(repair="guarded_nets:Unmark"))
    assert [each["action"] for each in expected] == [
        "accept",
        "repair",
        "accept",
        "rollback",
        "repair",
        "accept",
        "accept",
    ]
    other = lambda **policy: guard({"history": tmp_path / "other"}, **policy)  # noqa: E731
    assert decide(other) == expected


def test_no_guard_looks_at_its_model_while_another_reviews(
    guard: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The review's random generators would be taken for the model's doing."""
    taken, checked = [], OwnImages.checked

    def watched(*arguments: Any) -> OwnImages:
        taken.append(reviewing._TURNS.locked())
        return checked(*arguments)

    monkeypatch.setattr(OwnImages, "checked", staticmethod(watched))
    guard()
    assert taken == [True]


def test_the_same_seed_gives_the_same_decisions_at_the_same_time(guard: Make, tmp_path: Path) -> None:
    expected = decide(guard, guard(repair="guarded_nets:Unmark"))
    found: dict[int, list[dict[str, Any]]] = {}

    def work(number: int) -> None:
        made = guard({"history": tmp_path / f"{number}"}, repair="guarded_nets:Unmark")
        found[number] = decide(guard, made)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [expected] * 3


def test_another_seed_scans_otherwise(guard: Make, tmp_path: Path) -> None:
    reasons = []
    for number in (7, 8):
        made = guard({"history": tmp_path / f"{number}", "seed": number})
        reasons.append(made.review(net(seed=1), 1).reason)
    assert reasons[0] != reasons[1]


def test_global_generators_and_the_candidate_are_left_alone(guard: Make) -> None:
    candidate = net(2.0, seed=1).train()
    before = {name: value.clone() for name, value in candidate.state_dict().items()}
    made, state = guard(repair="guarded_nets:Unmark"), torch.get_rng_state()
    made.review(candidate, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert candidate.training
    assert all(torch.equal(value, before[name]) for name, value in candidate.state_dict().items())


def test_the_same_candidate_again_gets_the_same_decision(guard: Make) -> None:
    """As after a crash between a decision and its use."""
    made = guard(repair="guarded_nets:Unmark")
    for number, mark in enumerate((0.0, 2.0, 0.9), 1):
        candidate = net(mark, seed=number)
        first, again = made.review(candidate, number), guard().review(candidate, number)
        assert timeless(first) == timeless(again)
        for one, other in ((first.released, again.released), (first.continue_from, again.continue_from)):
            assert one is not None
            assert other is not None
            assert all(torch.equal(one[name], other[name]) for name in one)
    bad = net(seed=4).state_dict() | {"mark": torch.tensor(float("nan"))}
    assert timeless(made.review(bad, 4)) == timeless(made.review(bad, 4))
    assert History(Path(made.history)).check().lines == 5


def test_another_candidate_for_the_same_round_is_a_new_decision(guard: Make) -> None:
    """As of a server that restarts its last round."""
    made = guard()
    assert made.review(net(2.0, seed=1), 1).action == "rollback"
    assert made.review(net(seed=2), 1).action == "accept"
    assert made.last_round == 1


def test_an_earlier_round_is_refused(guard: Make) -> None:
    made = guard()
    made.review(net(seed=1), 5)
    with pytest.raises(ConfigError, match=r"expected a round from 5 on.*got 1\. Number the rounds on"):
        made.review(net(seed=2), 1)
    with pytest.raises(ConfigError, match="a round's number"):
        made.review(net(seed=2), -1)


def test_a_whole_state_dict_comes_back_with_batch_statistics(guard: Make) -> None:
    candidate = net(seed=1)
    candidate.norm.running_mean = torch.tensor([0.25])
    candidate.norm.num_batches_tracked = torch.tensor(12)
    released = guard().review(candidate, 1).released
    assert released is not None
    assert set(released) == set(candidate.state_dict())
    assert released["norm.running_mean"].tolist() == [0.25]
    assert released["norm.num_batches_tracked"].dtype == torch.int64
    assert int(released["norm.num_batches_tracked"]) == 12
    fresh = guard().released()
    assert fresh is not None
    assert int(fresh["norm.num_batches_tracked"]) == 12
    Net().load_state_dict(dict(fresh))


# How a guard is made


def test_the_history_remembers_the_seed(guard: Make) -> None:
    guard({"seed": None})
    seed = json.loads((History(Path(guard({"seed": None}).history)).manifest).read_text())["seed"]
    guard({"seed": seed})
    with pytest.raises(ConfigError, match=f"has the seed {seed}; got {seed + 1}"):
        guard({"seed": seed + 1})


def test_another_trusted_model_is_refused(guard: Make) -> None:
    guard()
    guard({"trusted": net().state_dict()})
    with pytest.raises(ConfigError, match="began with another model than the trusted one"):
        guard({"trusted": net(seed=1)})


def test_a_trusted_model_can_come_after_rounds_without_one(guard: Make) -> None:
    guard({"trusted": None}).review(net(seed=1), 1)
    assert guard().review(net(seed=2), 2).action == "accept"


def test_a_trusted_model_can_be_a_file_that_the_policy_names(guard: Make, tmp_path: Path) -> None:
    from fedmend.checkpoints import save_state

    save_state(net().state_dict(), tmp_path / "given.safetensors")
    made = guard({"trusted": None}, trusted=tmp_path / "given.safetensors")
    assert made.review(net(2.0, seed=1), 1).verdict == "backdoored"


@pytest.mark.parametrize(
    ("trusted", "message"),
    [
        (nn.Linear(2, 2), "trusted model can't be used: The candidate lacks"),
        (net().state_dict() | {"mark": torch.tensor(float("inf"))}, "NaN or infinite values in mark"),
    ],
    ids=["architecture", "inf"],
)
def test_a_trusted_model_that_cannot_be_used_is_refused(guard: Make, trusted: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        guard({"trusted": trusted})


@pytest.mark.parametrize(
    "beginning", [{"warm_up": 2}, {"trusted": "a.pt"}, {"first_detectors": ("guarded_nets:MarkedAlone",)}]
)
def test_two_beginnings_are_refused(guard: Make, beginning: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="several beginnings; choose one"):
        guard(**beginning)


def test_images_of_the_wrong_scale_are_named(tmp_path: Path) -> None:
    pixels, labels = images()
    with pytest.raises(
        DataError, match=re.escape("floats in [0, 1] without NaN; divide 8-bit values by 255")
    ):
        Guard(GuardPolicy(), model=Net, images=pixels.float(), labels=labels, history=tmp_path)


def test_a_model_that_expects_another_scale_is_named(guard: Make) -> None:
    trusted, candidate = net(), net(seed=1)
    for model in (trusted, candidate):
        model.head.weight.data /= 50
        model.head.bias.data = torch.tensor([5.0, 0.0, 0.0, 0.0])
    pixels, labels = images(80)
    decision = guard({"trusted": trusted, "images": pixels, "labels": labels}).review(candidate, 1)
    assert (decision.action, decision.verdict) == ("rollback", "inconclusive")
    assert "The network seems to expect pixels from 0 to 255" in decision.reason


def test_a_decision_is_json_without_the_weights(guard: Make) -> None:
    decision = guard().review(net(2.0, seed=1), 1)
    assert set(timeless(decision)) == {"round", "action", "verdict", "reason", "stop", "evidence"}


def test_memory_and_disk_stay_flat(guard: Make) -> None:
    made = guard(history_limit=3)
    for number in range(1, 13):
        made.review(net(seed=number), number)
    assert len(list((Path(made.history) / "models").iterdir())) == 3
    assert not [value for value in vars(made).values() if isinstance(value, dict | list)]
