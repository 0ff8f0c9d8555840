"""Votes as messages: the same results as in process, whatever a client sends."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from stand_ins import NODES, LocalGrid, adding, net
from torch import Tensor

from fedmend.errors import ConfigError, DataError
from fedmend.federation import Client
from fedmend.integrations.flower import RemoteClient, answer_votes, remote_participants
from fedmend.integrations.flower.vote_messages import QUESTION_TYPE, Question
from fedmend.pruning import locate, ranks
from fedmend.repairs import Context as RepairContext
from fedmend.repairs import FederatedPruning

LAYER = "0"


def data_of(index: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(index)
    return torch.rand(6, 1, 4, 4, generator=random), torch.randint(0, 2, (6,), generator=random)


def data(context: Context) -> tuple[Tensor, Tensor]:
    return data_of(int(context.node_config["partition-id"]))


def voting_app() -> ClientApp:
    app = ClientApp(mods=[answer_votes(data, net)])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(RecordDict(), reply_to=message)

    @app.query("fedmend")
    def never(message: Message, context: Context) -> Message:
        raise AssertionError

    return app


def remote(grid: LocalGrid, index: int = 0) -> RemoteClient:
    return RemoteClient(grid, NODES[index], timeout=5)
