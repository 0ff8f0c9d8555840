"""A federation whose server sees only sums: what it learns, and that guard, votes and group selection work."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from cornered import CORNER, TARGET, images, net, state
from tiny_data import image_set
from tiny_nets import conv
from torch import Tensor, nn

import fedmend.federation.secure_sums as secure_sums
from fedmend.errors import ConfigError, DataError
from fedmend.federation import Client, ClientUpdate, RoundPlan
from fedmend.federation.secure_sums import SecureSums, moved
from fedmend.guard import Guard, GuardPolicy
from fedmend.local_training import LocalTraining
from fedmend.pruning import bits, locate
from fedmend.repairs.asking import Asking, ask_for_bits
from fedmend.repairs.repair_on_sums import best_groups_on_sums, vote_on_sums

TRAINING = LocalTraining(1, 8, "sgd", 0.05)
PLAN = RoundPlan(1, 5, TRAINING)


@dataclass
class Sending:
    """A client that sends this change."""

    client_id: int
    delta: Tensor

    def fit(self, model: nn.Module, task: object, seed: int) -> ClientUpdate:
        return ClientUpdate(self.client_id, 1, self.delta)


@dataclass
class Server:
    """What the server's part of a sum was given."""

    received: list[Tensor] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    seen, real = Server(), secure_sums.total

    def watched(sent: Any, group: Any) -> Tensor:
        seen.received += list(sent.values())
        return real(sent, group)

    monkeypatch.setattr(secure_sums, "total", watched)
    return seen


def honest(count: int = 4) -> list[Client]:
    every = image_set(16 * count)
    return [
        Client(number, every.images[number::count], every.labels[number::count]) for number in range(count)
    ]


def small_net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return conv(4, 1, (8, 16)).eval()


def test_a_majority_vote_on_sums_is_that_on_ballots(server: Server) -> None:
    model, clients, rates = small_net(), honest(5), (0.25, 0.5)
    layer = locate(model, torch.zeros(1, 1, 8, 16))
    vote = vote_on_sums(model, layer, rates, SecureSums(clients, seed=3))
    open_vote = ask_for_bits(model, layer, rates, Asking(clients, 60.0, lambda *_: None))
    assert torch.equal(vote.tally, open_vote.tally)
    assert torch.equal(vote.scores(), open_vote.scores())
    ballots = [bits(client.activations(model, layer.name), rates).long() for client in clients]
    assert len(server.received) == 5
    for reply in server.received:
        assert not any(torch.equal(reply, ballot) for ballot in ballots)
        assert int(reply.max()) > 2**30  # masked


def test_a_ballot_of_other_numbers_shows_in_the_tally() -> None:
    model = small_net()
    layer = locate(model, torch.zeros(1, 1, 8, 16))
    sums = SecureSums(honest(3), seed=3)
    real = sums.of_integers
    sums.of_integers = lambda group, question: real(group, question) + 3  # type: ignore[method-assign]
    with pytest.raises(DataError, match="a tally of 3 ballots"):
        vote_on_sums(model, layer, (0.5,), sums)


def test_group_selection_on_sums_leaves_the_attackers_group_out(server: Server) -> None:
    """Each honest client moves another weight, so the new model tells whose group was kept."""
    clients, start = [], len(state(net()))
    for number in range(6):
        delta = torch.zeros(start)
        delta[3 * 128 + 16 + number] = 1e-3
        clients.append(Sending(number, delta))
    backdoor = torch.zeros(start)
    backdoor[TARGET * 128] = 7.0
    clients[3] = Sending(3, backdoor)
    own, model = images(), net()
    before = state(model)
    sums = SecureSums(clients, seed=3)  # type: ignore[arg-type]
    after = state(best_groups_on_sums(model, PLAN, sums, (own.images, own.labels), CORNER))
    parts = [float((after - before)[3 * 128 + 16 + number]) / 1e-3 for number in range(6)]
    assert sorted(parts) == pytest.approx([0, 0, 0.25, 0.25, 0.25, 0.25], abs=1e-2)
    assert parts[3] == 0
    assert float((after - before)[TARGET * 128]) == pytest.approx(0, abs=1e-5)
    assert len(server.received) == 6
    for reply in server.received:
        assert reply.dtype == torch.int64
        assert float((reply.double() * 4 / 2**40).floor().unique().numel()) == 4  # spread over all numbers


def test_the_guard_decides_on_the_sum(tmp_path: Path, server: Server) -> None:
    """It takes a model: what it comes from makes no difference."""
    own, model = images(), net()
    policy = GuardPolicy(warm_up=1, detectors=("differential",), repair="none", older_references=())
    guard = Guard(
        policy, model=net, images=own.images, labels=own.labels, history=tmp_path / "history", seed=1
    )
    sums = SecureSums([Sending(number, torch.full_like(state(model), 1e-3)) for number in range(3)], seed=3)  # type: ignore[misc]
    candidate = moved(model, sums.mean_update(model, PLAN, sums.everyone))
    torch.testing.assert_close(state(candidate), state(model) + 1e-3, atol=1e-5, rtol=0)
    assert guard.review(candidate, 1).action == "accept"
    assert len(server.received) == 3


def test_batch_statistics_are_summed_and_the_model_is_left_alone() -> None:
    model, clients = small_net(), honest(3)
    before = state(model)
    mean = SecureSums(clients, seed=3).mean_update(model, PLAN, (0, 2))
    assert torch.equal(state(model), before)
    after = moved(model, mean).state_dict()
    assert not torch.equal(after["1.running_mean"], model.state_dict()["1.running_mean"])
    assert float(after["1.running_var"].min()) >= 0


def test_masks_are_new_in_each_sum(server: Server) -> None:
    sums = SecureSums(honest(2), seed=3)
    for _ in range(2):
        sums.of_integers((0, 1), lambda client: torch.zeros(3))
    assert not torch.equal(server.received[0], server.received[2])


class Failing(Client):
    def activations(self, model: nn.Module, layer: str) -> Tensor:
        raise RuntimeError("out of battery")


def test_a_client_that_fails_is_named_and_no_sum_comes_of_it() -> None:
    clients = honest(3)
    clients[1] = Failing(1, clients[1].images, clients[1].labels)
    model = small_net()
    with pytest.raises(DataError, match=r"client 1 failed.*ask the group again without it.*out of battery"):
        vote_on_sums(model, locate(model, torch.zeros(1, 1, 8, 16)), (0.5,), SecureSums(clients, seed=3))


def test_the_sum_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="the sum of one is its own"):
        SecureSums(honest(2), seed=3).of_integers((1,), lambda client: torch.zeros(3))
    with pytest.raises(ConfigError, match="clip"):
        SecureSums(honest(2), seed=3, clip=0)
