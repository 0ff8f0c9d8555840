from copy import deepcopy
from typing import Any

import pytest
import torch
from simulations import busy
from tiny_data import image_set, settings
from torch import nn

from fedmend.aggregation import FedAvg, State, UniformFedAvg, Updates
from fedmend.checkpoints.fitting import load_into
from fedmend.errors import ConfigError, DataError, DivergedError, ModelError
from fedmend.federation import (
    Client,
    ClientUpdate,
    RoundPlan,
    Server,
    apply_delta,
    build_federation,
    collect,
    next_model,
    run_round,
)
from fedmend.federation.client_fit import NOT_FINITE
from fedmend.federation.simulator import initial_model
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten


class Fixed:
    """A client that sends what it is told to."""

    def __init__(self, client_id: int, num_examples: int, change: float) -> None:
        self.client_id, self.num_examples, self.change = client_id, num_examples, change
        self.seeds: list[int] = []

    def fit(self, model: nn.Module, task: object, seed: int) -> ClientUpdate:
        with torch.no_grad():
            for buffer in model.buffers():
                buffer += 1 if buffer.is_floating_point() else 10 * (self.client_id + 1)
        self.seeds.append(seed)
        size = len(flatten(model.state_dict()))
        return ClientUpdate(self.client_id, self.num_examples, torch.full((size,), self.change))


def fixed(*given: tuple[int, int, float]) -> list[Any]:
    return [Fixed(*each) for each in given]


def plan(number: int = 1, seed: int = 0, **changes: Any) -> RoundPlan:
    return RoundPlan(number, seed, LocalTraining(epochs=1), **changes)


def model_of(net: str = "linear") -> nn.Module:
    return initial_model(settings(model={"architecture": f"tiny_nets:{net}"}), image_set(8))


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (Server(FedAvg()), (1 * 0.2 + 3 * 0.6) / 4),
        (Server(FedAvg(), 0.5), (1 * 0.2 + 3 * 0.6) / 8),
        (Server(UniformFedAvg()), 0.4),
        (Server(UniformFedAvg(), 2.0), 0.8),
    ],
)
def test_a_round_by_hand(server: Server, expected: float) -> None:
    model = model_of()
    before = flatten(model.state_dict())
    candidate, _ = run_round(model, fixed((0, 1, 0.2), (1, 3, 0.6)), plan(), server)
    torch.testing.assert_close(
        flatten(candidate.state_dict()) - before, torch.full_like(before, expected), rtol=0, atol=1e-6
    )
    assert torch.equal(flatten(model.state_dict()), before)


@pytest.mark.parametrize("server_lr", [0.5, 1.0, 2.0])
def test_batch_statistics_are_averaged_whatever_the_server_learning_rate(server_lr: float) -> None:
    server = Server(FedAvg(), server_lr)
    model, _ = run_round(model_of("conv"), fixed((0, 1, -0.8), (1, 1, -0.6)), plan(), server)
    # A variance of 1 whose mean change is -0.7: times 2 it would be negative and the model of no use.
    assert torch.allclose(model[1].running_var, torch.tensor(0.3))
    assert torch.allclose(model[1].running_mean, torch.tensor(-0.7))
    assert torch.allclose(model[1].weight, torch.tensor(1 - 0.7 * server_lr))
    assert int(model[1].num_batches_tracked) == 10


def test_every_client_starts_from_the_global_model() -> None:
    seen = []

    class Spoiling(Fixed):
        def fit(self, model: nn.Module, task: object, seed: int) -> ClientUpdate:
            seen.append(deepcopy(model.state_dict()))
            update = super().fit(model, task, seed)
            for parameter in model.parameters():
                parameter.data.fill_(torch.nan)
            return update

    model = model_of("conv")
    before = deepcopy(model.state_dict())
    clients: list[Any] = [Spoiling(number, 1, 0.1) for number in range(3)]
    candidate, _ = run_round(model, clients, plan(), Server(FedAvg()))
    assert len(seen) == 3
    assert all(torch.equal(state[name], before[name]) for state in seen for name in before)
    assert bool(flatten(candidate.state_dict()).isfinite().all())


def test_every_fit_of_every_client_has_a_seed_of_its_own() -> None:
    clients = fixed((0, 1, 0.0), (1, 1, 0.0), (2, 1, 0.0))
    for seed in (0, 1):
        for number in (1, 2):
            collect(model_of(), clients, plan(number, seed))
    assert len({seed for client in clients for seed in client.seeds}) == 12


def test_the_order_of_clients_does_not_change_what_they_send() -> None:
    config = busy()
    federation = build_federation(config, image_set(64))
    first = None
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        clients = [federation.clients[number] for number in order]
        sent = collect(initial_model(config, image_set(8)), clients, federation.plan(2)).updates
        assert sent.client_ids == tuple(order)
        deltas = sent.deltas[torch.tensor(order).argsort()]
        first = deltas if first is None else first
        assert torch.equal(deltas, first)
    assert first is not None
    assert len({float(delta.sum()) for delta in first}) == 4


def test_what_is_collected_can_be_divided() -> None:
    collected = collect(model_of("conv"), fixed((5, 1, 0.1), (7, 2, 0.2), (6, 3, 0.3)), plan())
    part = collected.part([2, 0])
    assert part.updates.client_ids == (6, 5)
    assert part.updates.num_examples.tolist() == [3, 1]
    assert torch.equal(part.updates.deltas, collected.updates.deltas[[2, 0]])
    assert [int(each["1.num_batches_tracked"]) for each in part.buffers] == [70, 60]
    assert not bool(collected.updates.parameters.all())


def test_masked_parameters_stay_zero_whatever_clients_send() -> None:
    config = busy("tiny_nets:Viewed")
    federation = build_federation(config, image_set(64))
    model = initial_model(config, image_set(8))
    model.convolution.weight.data[1] = 0
    mask = torch.zeros(4, 1, 3, 3, dtype=torch.bool)
    mask[1] = True
    given = federation.plan(2, mask={"convolution.weight": mask})
    honest = collect(model, federation.choose(1), given).updates.deltas[:, : mask.numel()]
    assert not bool(honest[:, mask.flatten()].any())
    assert bool((honest[:, ~mask.flatten()] != 0).all())
    candidate, _ = run_round(model, fixed((0, 1, 0.5)), given, Server(FedAvg()))
    assert not bool(candidate.convolution.weight[1].any())
    assert bool((candidate.convolution.weight[0] != model.convolution.weight[0]).all())


def test_weights_that_are_not_finite_are_refused_and_the_model_is_left_as_it_was() -> None:
    model, given = model_of("conv"), plan(number=4)
    before = deepcopy(model.state_dict())
    collected = collect(model, fixed((0, 1, 0.1)), given)
    delta = collected.updates.deltas[0].clone()
    delta[3] = torch.inf
    with pytest.raises(ModelError, match="round 4 ended in weights that are NaN or infinite"):
        apply_delta(model, delta, collected, given)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_state_of_a_rule_is_handed_on() -> None:
    def counting(updates: Updates, state: State) -> tuple[torch.Tensor, State]:
        return updates.deltas[0], {"rounds": state.get("rounds", torch.tensor(0)) + 1}

    model, server = model_of(), Server(counting)
    for number in (1, 2, 3):
        model, server = run_round(model, fixed((0, 1, 0.1)), plan(number), server)
    assert int(server.state["rounds"]) == 3


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ((torch.zeros(3), {}), r"a delta of floats, torch.float32 \(516,\); got torch.float32 \(3,\)"),
        ((0.5, {}), "a delta of floats, .*; got a float"),
        ((torch.zeros(516).long(), {}), r"a delta of floats, .*; got torch.int64 \(516,\)"),
        ((torch.zeros(516, device="meta"), {}), r"a delta .*; got torch.float32 \(516,\) on meta"),
        ((torch.full((516,), torch.nan), {}), "a finite delta; got NaN .* from updates that are all finite"),
        (torch.zeros(516), r"a pair, the delta and its state \(or {}\); got torch.float32 \(516,\)"),
        (None, "a pair, .*; got a NoneType"),
        ((torch.zeros(516), {}, 1), "a pair, .*; got 3 values"),
        ((torch.zeros(516), {"rounds": 1}), "its state as a dict of names to tensors.*; got 'rounds': 1"),
        ((torch.zeros(516), None), "its state as a dict"),
    ],
)
def test_a_rule_of_ones_own_that_returns_something_else(result: Any, message: str) -> None:
    def rule(updates: Updates, state: State) -> Any:
        return result

    with pytest.raises(ConfigError, match=f"the aggregation rule .*rule must return {message}"):
        run_round(model_of(), fixed((0, 1, 0.1)), plan(), Server(rule))


def test_a_rule_of_ones_own_that_fails_is_named() -> None:
    def rule(updates: Updates, state: State) -> Any:
        return state["momentum"]

    with pytest.raises(
        ConfigError, match=r"the aggregation rule .*rule failed at .*py:\d+: KeyError: 'momentum'"
    ):
        run_round(model_of(), fixed((0, 1, 0.1)), plan(), Server(rule))


def test_an_update_that_is_not_finite_is_left_out_and_recorded() -> None:
    model = model_of()
    collected = collect(model, fixed((0, 1, 0.5), (1, 1, float("nan")), (2, 1, float("inf"))), plan())
    assert collected.updates.client_ids == (0,)
    assert [(each.client, each.reason) for each in collected.refused] == [(1, NOT_FINITE), (2, NOT_FINITE)]
    candidate, _ = next_model(model, collected, plan(), Server(FedAvg()))
    change = flatten(candidate.state_dict()) - flatten(model.state_dict())
    torch.testing.assert_close(change, torch.full_like(change, 0.5))


def test_the_round_in_which_every_client_diverges_is_named() -> None:
    federation = build_federation(settings(training={"lr": 1e38, "epochs": 3}), image_set(64))
    with pytest.raises(DivergedError, match=r"round 3: .* every client diverged.*\[training\] lr"):
        run_round(model_of(), federation.choose(3), federation.plan(3), Server(FedAvg()))


def test_finite_updates_may_add_up_to_weights_that_are_not() -> None:
    with pytest.raises(DivergedError, match=r"round 1 ended in weights .*\[federation\] server_lr"):
        run_round(model_of(), fixed((0, 1, 3e38)), plan(), Server(FedAvg(), 1e3))


def test_a_variance_that_a_rule_makes_negative_becomes_zero() -> None:
    """So that the checkpoint can be loaded again."""
    model, given = model_of("conv"), plan()
    collected = collect(model, fixed((0, 1, 0.0)), given)
    apply_delta(model, torch.full_like(collected.updates.deltas[0], -5.0), collected, given)
    load_into(model_of("conv"), model.state_dict())
    assert not bool(model[1].running_var.any())
    assert bool((model[1].running_mean == -5).all())


def test_a_round_without_clients_is_refused() -> None:
    clients: list[Client] = []
    with pytest.raises(DataError, match="one client or more"):
        run_round(model_of(), clients, plan(), Server(FedAvg()))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((None, 1.0), "callable as rule"),
        (("fedavg", 1.0), "callable as rule"),
        ((FedAvg(), -1.0), "learning rate: .*got -1"),
        ((FedAvg(), 0.0), "learning rate"),
        ((FedAvg(), float("nan")), "learning rate"),
        ((FedAvg(), "1"), "learning rate"),
    ],
)
def test_a_server_without_a_rule_or_a_learning_rate_is_refused(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Server(*values)
