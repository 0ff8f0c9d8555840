"""The server's side of the votes: clients on Flower's grid, as fedmend's repairs ask them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid
from torch import Tensor, nn

from fedmend.aggregation import FedAvg
from fedmend.detection import FoundTrigger
from fedmend.errors import ConfigError, DataError
from fedmend.federation import Client, ClientUpdate, Server, Task
from fedmend.integrations.flower.vote_messages import Question, triggers_in, values_in
from fedmend.local_training import LocalTraining
from fedmend.pruning import RankingVote
from fedmend.repairs import Participants, ValidationSet
from fedmend.repairs.trigger_pool import MOST_TRIGGERS


@dataclass(frozen=True, eq=False)
class RemoteClient:
    """A node that answers like a :class:`fedmend.federation.Client`, by messages to the mod ``answer_votes``.

    Attributes:
        grid: to send on.
        node: its number there.
        timeout: seconds to wait for a reply.
    """

    grid: Grid
    node: int
    timeout: float

    def activations(self, model: nn.Module, layer: str) -> Tensor:
        """The ranks of the channels, float64 (C,): in a vote they count like the activations, which stay with it.

        Raises:
            DataError: it sent no ranking, or nothing in time.
        """
        ballot = values_in(self._ask(Question("ranks", layer), model))
        vote = RankingVote(max(1, ballot.numel()), 1)
        flaw = vote.add(0, ballot)
        if flaw is not None:
            raise DataError(f"node {self.node} sent {flaw}")
        return ballot.to(torch.float64)

    def accuracies(
        self, model: nn.Module, layer: str, sequence: Sequence[int], points: Sequence[int]
    ) -> Tensor:
        """See :meth:`fedmend.federation.Client.accuracies`; not checked here.

        Raises:
            DataError: it sent no numbers, or nothing in time.
        """
        return values_in(self._ask(Question("accuracies", layer, tuple(sequence), tuple(points)), model))

    def triggers(self, model: nn.Module, seed: int) -> list[FoundTrigger]:
        """See :meth:`fedmend.federation.Client.triggers`; not checked here.

        Raises:
            DataError: it sent no triggers, or nothing in time.
        """
        return triggers_in(self._ask(Question("triggers", seed=seed), model), MOST_TRIGGERS)

    def fit(self, model: nn.Module, task: Task, seed: int) -> ClientUpdate:
        """Refused: the federation's own rounds train.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "nodes of Flower don't fine-tune in a repair; set fine_tuning_rounds=0, and the federation's next rounds "
            "fine-tune the pruned model"
        )

    def _ask(self, question: Question, model: nn.Module) -> RecordDict:
        message = Message(question.content(dict(model.state_dict())), self.node, MessageType.TRAIN)
        for reply in self.grid.send_and_receive([message], timeout=self.timeout):
            if reply.has_error():
                raise DataError(f"node {self.node} failed; has its ClientApp the mod answer_votes?")
            return reply.content
        raise DataError(f"node {self.node} sent nothing within {self.timeout:g} s")


def remote_participants(
    grid: Grid,
    image_shape: tuple[int, int, int],
    *,
    nodes: Sequence[int] | None = None,
    timeout: float = 600.0,
    validation: ValidationSet | None = None,
    seed: int = 0,
) -> Participants:
    """A federation on Flower's grid, for a repair by votes without fine-tuning.

    Args:
        grid: of the ``ServerApp``.
        image_shape: (C, H, W) of the clients' images.
        nodes: whom to ask; None: all that are connected.
        timeout: seconds to wait for each node.
        validation: see :class:`fedmend.repairs.Participants`.
        seed: of the clients' searches for triggers.
    """
    asked = list(grid.get_node_ids() if nodes is None else nodes)
    clients = [cast(Client, RemoteClient(grid, node, timeout)) for node in asked]
    return Participants(
        image_shape=image_shape,
        clients=clients,
        choose=lambda number: clients,
        last_round=0,
        training=LocalTraining(),
        server=Server(FedAvg()),
        seed=seed,
        validation=validation,
    )
