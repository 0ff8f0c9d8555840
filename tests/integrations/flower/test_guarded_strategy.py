"""A guard around Flower's strategies, with clients in this process."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedMedian, FedYogi, Krum, Result, Strategy
from stand_ins import DictatedGuard, LocalGrid, MarkedNet, adding, arrays_of, dark_and_bright, net
from torch import Tensor

from fedmend.errors import ConfigError, OutputError
from fedmend.files import write_bytes
from fedmend.guard import Guard, GuardPolicy, History
from fedmend.integrations.flower import GuardedStrategy

BIAS = "4.bias"


def run(
    guard: DictatedGuard, inner: Strategy | None = None, rounds: int | None = None, **options: Any
) -> Result:
    rounds = len(guard.actions) if rounds is None else rounds
    strategy = GuardedStrategy(inner or FedAvg(), guard)
    return strategy.start(LocalGrid(adding(1.0)), arrays_of(net()), rounds, **options)


def bias(record: ArrayRecord) -> Tensor:
    return record.to_torch_state_dict()[BIAS]


START = net().state_dict()[BIAS]


@pytest.mark.parametrize(
    ("actions", "gained"),
    [
        (("accept", "accept"), 2),
        (("accept", "rollback"), 1),
        (("accept", "rollback", "accept"), 2),
        (("rollback", "rollback"), 0),
        (("accept", "full"), 1),
        (("full", "full"), 0),
        (("accept", "full", "accept"), 2),
        (("accept", "hold"), 1),  # trained on, but not released
        (("accept", "hold", "accept"), 3),
        (("accept", "hold", "rollback", "accept"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_a_run_ends_with(actions: tuple[str, ...], gained: int) -> None:
    result = run(DictatedGuard(*actions))
    torch.testing.assert_close(bias(result.arrays), START + gained)


def test_a_repaired_model_is_what_training_goes_on_with() -> None:
    guard = DictatedGuard("accept", "repair", "accept")
    result = run(guard)
    torch.testing.assert_close(bias(result.arrays), torch.full((2,), 1.25))


def test_the_guard_sees_the_models_own_types_and_the_clients_get_them_back() -> None:
    """Flower's average turns the int64 counter into float64."""
    guard = DictatedGuard("accept", "accept")
    result = run(guard)
    own = net().state_dict()
    for state in (*guard.candidates.values(), result.arrays.to_torch_state_dict()):
        assert list(state) == list(own)
        assert {name: value.dtype for name, value in state.items()} == {
            name: value.dtype for name, value in own.items()
        }
    assert int(guard.candidates[2]["1.num_batches_tracked"]) == 2
    torch.testing.assert_close(guard.candidates[2]["1.running_mean"], own["1.running_mean"] + 2)


def test_a_list_of_arrays_is_matched_by_order() -> None:
    guard = DictatedGuard("accept")
    arrays = ArrayRecord([value.numpy() for value in net().state_dict().values()])
    result = GuardedStrategy(FedAvg(), guard).start(LocalGrid(adding(1.0)), arrays, 1)
    assert list(guard.candidates[1]) == list(net().state_dict())
    assert list(result.arrays) == list(arrays)


def test_arrays_of_another_model_are_refused_before_any_round() -> None:
    with pytest.raises(ConfigError, match=r"lack 0.weight.*they hold other.*pass ArrayRecord"):
        GuardedStrategy(FedAvg(), DictatedGuard()).start(
            LocalGrid(adding(1.0)), ArrayRecord({"other": arrays_of(net())[BIAS]}), 1
        )
    short = net().state_dict() | {BIAS: torch.zeros(3)}
    with pytest.raises(ConfigError, match=r"4.bias of shape \(2,\), got \(3,\)"):
        GuardedStrategy(FedAvg(), DictatedGuard()).start(LocalGrid(adding(1.0)), ArrayRecord(short), 1)


@pytest.mark.parametrize(
    ("sent_as", "refused"), [(torch.float16, True), (torch.int64, True), (torch.float64, False)]
)
def test_arrays_that_would_round_what_was_reviewed_are_refused(sent_as: torch.dtype, refused: bool) -> None:
    arrays = ArrayRecord({name: value.to(sent_as) for name, value in net().state_dict().items()})
    strategy = GuardedStrategy(FedAvg(), DictatedGuard())
    with pytest.raises(ConfigError, match="clients would get a rounded model") if refused else nullcontext():
        strategy.start(LocalGrid(adding(1.0)), arrays, 0)


def test_a_disk_too_full_for_a_decision_s_manifest_leaves_no_contradiction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the strategy says, the model that it ends with and the history agree."""
    images, labels = dark_and_bright()
    history = History(tmp_path / "history")
    guard = Guard(
        GuardPolicy(warm_up=9), model=MarkedNet(), images=images, labels=labels, history=history.path, seed=1
    )

    def full(path: Path, content: bytes) -> None:
        if path == history.manifest:
            raise OutputError("No space left on device")
        write_bytes(path, content)

    monkeypatch.setattr("fedmend.guard.history.write_bytes", full)
    strategy = GuardedStrategy(FedAvg(fraction_evaluate=0.0), guard)
    result = strategy.start(LocalGrid(adding(1.0, name="mark")), arrays_of(MarkedNet()), 2)
    recorded = [(line.round, line.action) for line in history.lines()]
    assert recorded == [(1, "accept")]
    assert [(each.round, each.action) for each in strategy.decisions] == recorded
    metrics = result.train_metrics_clientapp
    assert [metrics[number]["guard-action"] for number in (1, 2)] == [0, 2]
    assert float(result.arrays.to_torch_state_dict()["mark"]) == 1.0


MOMENTUM = {
    "fedavgm": lambda: FedAvgM(server_momentum=0.9),
    "fedavgm-slow": lambda: FedAvgM(server_learning_rate=0.5, server_momentum=0.5),
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
}


def by_hand(
    inner: Strategy, actions: list[str], steps: list[tuple[int, float]], start: ArrayRecord | None = None
) -> DictatedGuard:
    """Rounds run by hand: each has a number and what its clients add. Returns the guard, which saw the candidates."""
    guard, arrays = DictatedGuard(*actions), start or arrays_of(net())
    strategy = GuardedStrategy(inner, guard)
    for number, step in steps:
        grid = LocalGrid(adding(step))
        replies = grid.send_and_receive(strategy.configure_train(number, arrays, ConfigRecord(), grid))
        arrays, _ = strategy.aggregate_train(number, replies)
    return guard


@pytest.mark.parametrize("make", MOMENTUM.values(), ids=MOMENTUM)
@pytest.mark.parametrize("rejected", [["rollback"], ["hold", "rollback"], ["full"]], ids=" ".join)
def test_a_rejected_round_leaves_no_trace_in_the_strategy(make: Any, rejected: list[str]) -> None:
    """The next candidate is that of a federation without the rejected rounds."""
    poisoned = [(2, 50.0)] * len(rejected)
    came = by_hand(make(), ["accept", *rejected, "accept"], [(1, 1.0), *poisoned, (2, 1.0)])
    expected = by_hand(make(), ["accept", "accept"], [(1, 1.0), (2, 1.0)])
    for name, value in expected.candidates[2].items():
        torch.testing.assert_close(came.candidates[2][name], value)


@pytest.mark.parametrize("make", MOMENTUM.values(), ids=MOMENTUM)
def test_after_a_repair_the_strategy_starts_from_the_repaired_model(make: Any) -> None:
    guard, inner = DictatedGuard("repair", "accept"), make()
    GuardedStrategy(inner, guard).start(LocalGrid(adding(0.0)), arrays_of(net()), 2)
    torch.testing.assert_close(guard.candidates[2][BIAS], torch.full((2,), 0.25))


@pytest.mark.parametrize("make", MOMENTUM.values(), ids=MOMENTUM)
def test_a_rollback_to_an_older_model_forgets_what_came_since(make: Any) -> None:
    """The guard may stop trusting models that it accepted, and go back to one before them."""
    actions = ["accept", "accept", "withdraw", "accept"]
    came = by_hand(make(), actions, [(1, 1.0), (2, 9.0), (3, 9.0), (4, 1.0)])
    first = ArrayRecord(came.accepted[0])
    expected = by_hand(make(), ["accept"], [(4, 1.0)], start=first)
    torch.testing.assert_close(came.candidates[4][BIAS], expected.candidates[4][BIAS])


def test_an_adaptive_optimiser_s_negative_variance_becomes_zero() -> None:
    guard = DictatedGuard("accept")
    GuardedStrategy(FedAdam(eta=10.0), guard).start(LocalGrid(adding(-0.1)), arrays_of(net()), 1)
    assert torch.equal(guard.candidates[1]["1.running_var"], torch.zeros(2))


@pytest.mark.parametrize("make", [FedMedian, lambda: Krum(num_malicious_nodes=0)], ids=["median", "krum"])
def test_other_rules(make: Any) -> None:
    torch.testing.assert_close(bias(run(DictatedGuard("accept"), make()).arrays), START + 1)


def test_the_metrics_say_what_happened() -> None:
    result = run(DictatedGuard("rollback", "accept", "hold", "repair"))
    metrics = result.train_metrics_clientapp
    assert [metrics[number]["guard-action"] for number in (1, 2, 3, 4)] == [2, 0, 3, 1]
    assert [metrics[number]["guard-released"] for number in (1, 2, 3, 4)] == [0, 1, 1, 1]
    assert metrics[1]["loss"] == pytest.approx(0.5)


def test_after_a_stop_no_client_is_asked_again() -> None:
    guard = DictatedGuard("accept", "rollback+stop")
    strategy, grid = GuardedStrategy(FedAvg(), guard), LocalGrid(adding(1.0))
    result = strategy.start(grid, arrays_of(net()), 5)
    assert strategy.should_stop()
    rounds = {message.content["config"]["server-round"] for message in grid.sent}
    assert len([message for message in grid.sent if message.metadata.message_type == "train"]) == 6
    assert rounds <= {1, 2}
    torch.testing.assert_close(bias(result.arrays), START + 1)


def test_a_restarted_federation_goes_on_from_the_history() -> None:
    trusted = net()
    with torch.no_grad():
        trusted[4].bias.fill_(7.0)
    guard = DictatedGuard("accept", last_round=5, trusted=trusted)
    result = run(guard)
    assert list(guard.candidates) == [6]
    torch.testing.assert_close(bias(result.arrays), torch.full((2,), 8.0))


def test_a_round_without_a_reply_keeps_the_model() -> None:
    guard, grid = DictatedGuard("accept"), LocalGrid(adding(1.0))
    strategy = GuardedStrategy(FedAvg(), guard)
    grid.silent = set(grid.nodes)
    result = strategy.start(grid, arrays_of(net()), 1)
    assert not guard.candidates
    torch.testing.assert_close(bias(result.arrays), START)
