"""Votes as messages: the same results as in process, whatever a client sends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from stand_ins import NODES, LocalGrid, adding, net
from torch import Tensor

from fedmend.errors import ConfigError, DataError
from fedmend.federation import Client
from fedmend.integrations.flower import RemoteClient, answer_votes, remote_participants
from fedmend.integrations.flower.vote_messages import Question
from fedmend.pruning import ranks
from fedmend.repairs import Context as RepairContext
from fedmend.repairs import FederatedPruning
from fedmend.triggers import Addition, Patch

LAYER = "0"
ANOTHER_ORDER = np.dtype(np.float32).newbyteorder()


def data_of(index: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(index)
    return torch.rand(6, 1, 4, 4, generator=random), torch.randint(0, 2, (6,), generator=random)


def data(context: Context) -> tuple[Tensor, Tensor]:
    return data_of(int(context.node_config["partition-id"]))


def voting_app() -> ClientApp:
    app = ClientApp(mods=[answer_votes(data, net)])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(RecordDict({"trained": ArrayRecord()}), reply_to=message)

    return app


def replying(arrays: dict[str, Array]) -> LocalGrid:
    def app(message: Message, context: Context) -> Message:
        return Message(RecordDict({"fedmend-reply": ArrayRecord(arrays)}), reply_to=message)

    return LocalGrid(app)


def remote(grid: LocalGrid, index: int = 0) -> RemoteClient:
    return RemoteClient(grid, NODES[index], timeout=5)


def test_a_node_s_ballot_is_that_of_a_client_in_process() -> None:
    model, here = net(), Client(0, *data_of(1))
    there = remote(LocalGrid(voting_app()), 1)
    ballot = there.activations(model, LAYER)
    assert torch.equal(ranks(ballot), ranks(here.activations(model, LAYER)))


def test_a_node_s_accuracies_and_triggers_are_those_of_a_client_in_process() -> None:
    model, here = net(), Client(0, *data_of(2))
    there = remote(LocalGrid(voting_app()), 2)
    assert torch.equal(
        there.accuracies(model, LAYER, (1, 0), (0, 1)), here.accuracies(model, LAYER, (1, 0), (0, 1))
    )
    found, own = there.triggers(model, 3), here.triggers(model, 3)
    assert len(found) == len(own) > 0
    assert {type(each.trigger) for each in own} == {Patch, Addition}
    for came, expected in zip(found, own, strict=True):
        assert type(came.trigger) is type(expected.trigger)
        for name, value in vars(expected.trigger).items():
            assert torch.equal(vars(came.trigger)[name], value)
        assert (came.source_class, came.target_class) == (expected.source_class, expected.target_class)
        assert came.rate == expected.rate


@pytest.mark.parametrize("vote", ["ranking", "majority"])
def test_a_repair_by_votes_gives_the_model_of_one_in_process(vote: Any) -> None:
    recipe = FederatedPruning(vote=vote, fine_tuning_rounds=0, timeout=30)
    there = remote_participants(LocalGrid(voting_app()), (1, 4, 4), timeout=5)
    here = replace(there, clients=[Client(index, *data_of(index)) for index in range(len(NODES))])
    repaired, expected = (recipe(net(), [], RepairContext(participants=each)) for each in (there, here))
    assert repaired.summary == expected.summary
    for name, value in expected.model.state_dict().items():
        assert torch.equal(repaired.model.state_dict()[name], value), name


def test_clients_that_send_garbage_or_nothing_are_outvoted() -> None:
    """One never answers, one sends repeated ranks: the third's vote counts."""
    honest = voting_app()

    def app(message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] == 1:
            return Message(
                RecordDict({"fedmend-reply": ArrayRecord({"values": Array(np.zeros(2, np.uint8))})}),
                reply_to=message,
            )
        return honest(message, context)

    grid = LocalGrid(app)
    grid.silent = {NODES[2]}
    participants = remote_participants(grid, (1, 4, 4), timeout=5)
    recipe = FederatedPruning(fine_tuning_rounds=0, timeout=30)
    candidate = recipe(net(), [], RepairContext(participants=participants))
    assert candidate.details.ballots == 1  # type: ignore[union-attr]


GARBAGE = {
    "repeated ranks": np.zeros(2, np.int64),
    "ranks out of range": np.array([0, 7]),
    "NaN": np.full(2, np.nan),
    "a matrix": np.eye(2, dtype=np.int64),
    "nothing": np.zeros(0, np.int64),
    "huge": np.array([0, 2**62]),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_no_ballot(garbage: Any) -> None:
    with pytest.raises(DataError, match="node 11 sent"):
        remote(replying({"values": Array(garbage)})).activations(net(), LAYER)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"values": Array("float32", (2,), "numpy.ndarray", b"x")},
        {"masks": Array(np.zeros((2, 1, 4, 4)))},
        {"values": Array(np.zeros(2, ANOTHER_ORDER)), "masks": Array(np.zeros((2, 1, 4, 4), ANOTHER_ORDER))},
    ],
    ids=["empty", "no array", "parts missing", "another byte order"],
)
def test_a_reply_without_the_parts_is_refused(arrays: dict[str, Array]) -> None:
    with pytest.raises(DataError, match="a client's reply holds no"):
        remote(replying(arrays)).triggers(net(), 0)
    with pytest.raises(DataError, match="a client's reply holds no values"):
        remote(replying(arrays)).activations(net(), LAYER)


def test_triggers_whose_parts_differ_in_number_are_refused() -> None:
    parts = {"masks": np.zeros((2, 1, 4, 4)), "patterns": np.zeros((1, 1, 4, 4))}
    parts |= {"classes": np.zeros((2, 2), np.int64), "rates": np.zeros(2)}
    with pytest.raises(DataError, match="triggers lack parts"):
        remote(replying({name: Array(value) for name, value in parts.items()})).triggers(net(), 0)


def test_a_node_that_says_nothing() -> None:
    grid = LocalGrid(voting_app())
    grid.silent = {NODES[0]}
    with pytest.raises(DataError, match="node 11 sent nothing within 5 s"):
        remote(grid).activations(net(), LAYER)


def test_a_node_without_the_mod() -> None:
    with pytest.raises(DataError, match=r"node 11 failed; has its ClientApp the mod answer_votes\?"):
        remote(LocalGrid(adding(1.0))).activations(net(), LAYER)


def test_other_messages_go_to_the_app() -> None:
    message = Message(RecordDict(), NODES[0], "train")
    (reply,) = LocalGrid(voting_app()).send_and_receive([message])
    assert "trained" in reply.content


def test_nodes_do_not_fine_tune() -> None:
    with pytest.raises(ConfigError, match="set fine_tuning_rounds=0"):
        remote(LocalGrid(voting_app())).fit(net(), None, 0)  # type: ignore[arg-type]


def test_a_question_of_another_version_is_refused() -> None:
    content = Question("ranks", LAYER).content(net().state_dict())
    content["fedmend-question"]["kind"] = "weights"
    with pytest.raises(DataError, match="another version"):
        Question.of(content)
