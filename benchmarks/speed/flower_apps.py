"""fedmend's honest federation as apps for Flower's simulation engine: the engine is Flower's, the training fedmend's
or, as Flower's users have it, a plain PyTorch loop over a ``DataLoader``.

A module of its own, beside the script: Ray's workers import it by name, so that what they cache stays between fits.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from result_line import samples_of
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fedmend import load_images
from fedmend.federation import (
    Client,
    SimulationConfig,
    build_federation,
    choose_clients,
    initial_model,
    parse_config,
)
from fedmend.local_training import LocalTraining
from fedmend.pixels import to_float
from fedmend.seeds import derive_seed

THREADS = 1
BACKEND = {"client_resources": {"num_cpus": THREADS, "num_gpus": 0.0}}
PATIENCE = 3600.0

client_app = ClientApp()


@cache
def workplace(settings: str) -> tuple[SimulationConfig, tuple[Client, ...], nn.Module]:
    """What a worker process makes once: settings, all clients with their images, and a model to train."""
    torch.set_num_threads(THREADS)
    config = parse_config(json.loads(settings))
    images = load_images(config.data.source, "train")
    model = initial_model(config, images).to(memory_format=torch.channels_last)
    return config, build_federation(config, images).clients, model


@client_app.query()
def prepare(message: Message, context: Context) -> Message:
    """Make the worker ready; the answer is which client the node stands for."""
    workplace(message.content["config"]["settings"])
    client = ConfigRecord({"client": context.node_config["partition-id"]})
    return Message(RecordDict({"client": client}), reply_to=message)


@client_app.train()
def fit(message: Message, context: Context) -> Message:
    """A client's local training, with the seed that fedmend's simulator would give it."""
    order = message.content["config"]
    config, clients, model = workplace(order["settings"])
    index = context.node_config["partition-id"]
    client = clients[index]
    seed = derive_seed(derive_seed(config.seed, "fit", order["server-round"], index), "train")
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    if order["plain"]:
        train_plainly(model, client.images, client.labels, config.training, seed)
    else:
        config.training(model, client.images, client.labels, seed)
    metrics = MetricRecord({"num-examples": len(client.images)})
    reply = {"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}
    return Message(RecordDict(reply), reply_to=message)


def train_plainly(model: nn.Module, images: Tensor, labels: Tensor, config: LocalTraining, seed: int) -> None:
    """The same epochs, batch size and optimizer as tutorials write it; the model and its input in the usual order.

    The images are turned to floats once and not augmented, which is less work than most have. Of the settings only
    those are known that the benchmark's federations use.
    """
    torch.manual_seed(seed)
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    optimizer: torch.optim.Optimizer
    if config.optimizer == "adam":
        optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum)
    loader = DataLoader(TensorDataset(to_float(images), labels), batch_size=config.batch_size, shuffle=True)
    criterion = nn.CrossEntropyLoss()
    model.train()
    for _ in range(config.epochs):
        for pixels, classes in loader:
            optimizer.zero_grad()
            criterion(model(pixels), classes).backward()
            optimizer.step()


class TimedFedAvg(FedAvg):
    """Flower's FedAvg with the clients that fedmend would choose; notes time and samples.

    Attributes:
        nodes: the node of each client.
        started: when the first round was configured.
        ended: when the last round so far was aggregated.
        samples: how many images were trained on, each as often as it was.
    """

    def __init__(self, config: SimulationConfig, nodes: list[int]) -> None:
        super().__init__(fraction_evaluate=0.0)
        self.federation, self.nodes = config, nodes
        self.started = self.ended = 0.0
        self.samples = 0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The global model, to each chosen client."""
        self.started = self.started or time.perf_counter()
        config["server-round"] = server_round
        record = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: config})
        chosen = [self.nodes[index] for index in choose_clients(self.federation, server_round)]
        return [Message(record, node, MessageType.TRAIN) for node in chosen]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Flower's own; it would go on without a client that failed."""
        answers = answered(replies)
        result = super().aggregate_train(server_round, answers)
        self.ended = time.perf_counter()
        sizes = [answer.content["metrics"]["num-examples"] for answer in answers]
        self.samples += sum(samples_of(self.federation.training, images) for images in sizes)
        return result


def federate(config: SimulationConfig, model: nn.Module, plain: bool) -> tuple[float, int]:
    """Train ``model`` in place, as many clients at once as there are cores; ``plain``: by :func:`train_plainly`.

    Returns:
        Seconds of the rounds, from the first one's configuration to the last one's aggregation, when the workers are
        ready; and how many samples were trained on.
    """
    server_app = ServerApp()
    order = ConfigRecord({"settings": json.dumps(config.to_dict()), "plain": plain})
    outcome: list[Any] = []

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = TimedFedAvg(config, nodes_when_ready(grid, config.federation.clients, order))
        arrays = ArrayRecord(model.state_dict())
        result = strategy.start(grid, arrays, config.federation.rounds, timeout=PATIENCE, train_config=order)
        model.load_state_dict(result.arrays.to_torch_state_dict())
        outcome.extend((strategy.ended - strategy.started, strategy.samples))

    run_simulation(server_app, client_app, config.federation.clients, backend_config=BACKEND)
    round_seconds, samples = outcome
    return round_seconds, samples


def nodes_when_ready(grid: Grid, clients: int, order: ConfigRecord) -> list[int]:
    """The node of each client, when every worker has read the images.

    All nodes are asked at once, so there is more than one question for a worker, and each is busy with its first one
    for seconds.
    """
    while len(nodes := list(grid.get_node_ids())) < clients:
        time.sleep(0.02)
    content = RecordDict({"config": order})
    questions = [Message(content, node, MessageType.QUERY) for node in nodes]
    answers = answered(grid.send_and_receive(questions, timeout=PATIENCE))
    found = {answer.content["client"]["client"]: answer.metadata.src_node_id for answer in answers}
    return [found[index] for index in range(clients)]


def answered(replies: Iterable[Message]) -> list[Message]:
    """The replies, none of which tells of an error.

    Raises:
        RuntimeError: one does.
    """
    answers = list(replies)
    for answer in answers:
        if answer.has_error():
            raise RuntimeError(f"a client failed: {answer.error.reason}")
    return answers
