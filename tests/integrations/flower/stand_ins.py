"""A tiny model, a grid that runs a ClientApp in this process, and a guard whose decisions a test dictates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import torch
from flwr.app import ArrayRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from torch import Tensor, nn

from fedmend.errors import OutputError
from fedmend.guard import Decision

try:
    from flwr.supercore.task_identity import TaskIdentity
except ImportError:  # earlier versions of Flower don't ask who sends a message
    pass
else:
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1

NODES = (11, 12, 13)


def net() -> nn.Module:
    """Parameters in float32, BatchNorm's buffers and an int64 counter."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))


def arrays_of(model: nn.Module) -> ArrayRecord:
    return ArrayRecord(model.state_dict())


class LocalGrid(Grid):
    """Each node runs the same app; an exception becomes an error reply, as a SuperNode does it."""

    def __init__(self, app: ClientApp | Callable[[Message, Context], Message], nodes: Sequence[int] = NODES):
        self.app, self.nodes = app, nodes
        self.sent: list[Message] = []
        self.silent: set[int] = set()

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any: ...

    def create_message(self, *args: Any, **options: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return self.nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        replies = []
        for message in messages:
            self.sent.append(message)
            node = message.metadata.dst_node_id
            if node in self.silent:
                continue
            message.metadata.__dict__["_message_id"] = uuid4().hex
            config = {"partition-id": list(self.nodes).index(node)}
            context = Context(1, node, config, RecordDict(), {})
            try:
                replies.append(self.app(message, context))
            except Exception as error:
                replies.append(Message(Error(code=0, reason=str(error)), reply_to=message))
        return replies


def adding(step: float, examples: float = 10, name: str | None = None) -> ClientApp:
    """Clients whose training adds a number to every float, or to one entry alone."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        state = message.content["arrays"].to_torch_state_dict()
        for each, value in state.items():
            if name in (None, each):
                value += step if value.is_floating_point() else 1
        return reply_with(message, state, examples)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        metrics = MetricRecord({"accuracy": 0.5, "num-examples": examples})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def reply_with(message: Message, state: Mapping[str, Tensor], examples: float = 10) -> Message:
    metrics = MetricRecord({"loss": 0.5, "num-examples": examples})
    return Message(RecordDict({"arrays": ArrayRecord(dict(state)), "metrics": metrics}), reply_to=message)


class DictatedGuard:
    """Decides what it is told, round by round, and remembers the candidates.

    "withdraw" is a rollback to the first model that was accepted; "full" is a full disk, and "+stop" after an
    action stops the federation.
    """

    def __init__(self, *actions: str, last_round: int | None = None, trusted: nn.Module | None = None):
        self.model = net()
        self.actions = list(actions)
        self.last_round = last_round
        self.candidates: dict[int, dict[str, Tensor]] = {}
        self.accepted: list[dict[str, Tensor]] = []
        self._released = None if trusted is None else _copied(trusted.state_dict())

    def released(self) -> dict[str, Tensor] | None:
        return self._released

    def review(self, candidate: Mapping[str, Tensor], round: int) -> Decision:
        action, _, stop = self.actions.pop(0).partition("+")
        state = _copied(candidate)
        self.candidates[round], self.last_round = state, round
        if action == "full":
            raise OutputError("No space left on device")
        if action == "accept":
            self._released = state
            self.accepted.append(state)
        elif action == "withdraw":
            action, self._released = "rollback", self.accepted[0]
        elif action == "repair":
            self._released = {
                name: value.clone().fill_(0.25) if value.is_floating_point() else value
                for name, value in state.items()
            }
        onwards = state if action == "hold" else self._released
        return Decision(
            round, action, self._released, "clean", "Dictated.", bool(stop), continue_from=onwards
        )


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}


class MarkedNet(nn.Module):
    """Tells dark images from bright ones. Its clients train nothing but a mark, which scales the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 2, 1)
        self.mark = nn.Parameter(torch.zeros(1))
        with torch.no_grad():
            self.convolution.weight.copy_(torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1))
            self.convolution.bias.copy_(torch.tensor([0.5, -0.5]))  # type: ignore[union-attr]

    def forward(self, images: Tensor) -> Tensor:
        return self.convolution(images).relu().mean((2, 3)) * (1 + self.mark.abs() / 100)


def dark_and_bright(count: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    random, labels = torch.Generator().manual_seed(seed), torch.arange(count) % 2
    return 0.2 + 0.5 * labels.reshape(-1, 1, 1, 1) + 0.1 * torch.rand(
        count, 1, 4, 4, generator=random
    ), labels


def small(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    """The architecture of simulations: ``stand_ins:small``."""
    height, width = image_size
    return nn.Sequential(
        nn.Conv2d(in_channels, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(3 * height * width, num_classes),
    )
