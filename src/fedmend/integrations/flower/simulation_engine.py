"""``fedmend simulate`` on Flower's simulation engine: the server is fedmend's, its clients train on Flower's nodes.

The server's part of a round is :func:`fedmend.federation.simulate`; only the training is sent away. So a run has the
same parameters, files and records as one in worker processes, and can be resumed with either.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from torch import nn

from fedmend.errors import ConfigError, FedmendError
from fedmend.federation import (
    Client,
    Execution,
    Refused,
    Review,
    RoundPlan,
    RunFolder,
    SimulationConfig,
    simulate,
)
from fedmend.federation.client_fit import Fitted
from fedmend.federation.reviews import release_all
from fedmend.inference import device_of
from fedmend.integrations.flower.training_messages import TrainingOrder, fitted_in, train
from fedmend.terminal_text import printable
from fedmend.user_code import in_one_line

_PATIENCE = 24 * 3600.0
_FIRST_WAIT = 300.0

client_app = ClientApp()


@client_app.train()
def _train(message: Message, context: Context) -> Message:
    """A node's part: see :func:`train`."""
    return Message(train(message.content), reply_to=message)


def simulate_on_flower(
    config: SimulationConfig,
    out: Path,
    *,
    resume: bool = False,
    execution: Execution = Execution(),  # noqa: B008 - frozen
    review: Review = release_all,
) -> RunFolder:
    """See :func:`fedmend.federation.simulate`; each client is a node of Flower's engine, with one thread.

    ``execution.workers`` is how many train at once; None: as many as there are processors.

    Raises:
        ConfigError: Ray isn't installed, on which the engine runs; or as ``simulate``.
        FedmendError: the engine or a node failed; or as ``simulate``.
    """
    try:
        import ray  # noqa: F401
        from flwr.simulation import run_simulation
    except ImportError as error:
        raise ConfigError(
            f"Flower's simulation engine needs {error.name}; install it: pip install 'flwr[simulation]'"
        ) from error
    outcome: list[RunFolder | BaseException] = []
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        """Run the simulation; Flower would only log an error."""
        fit = GridFit(grid, config, os.getcwd())  # noqa: PTH109 - as a client's data source may be relative to it
        try:
            outcome.append(
                simulate(
                    config,
                    out,
                    resume=resume,
                    execution=replace(execution, workers=1, fit=fit),
                    review=review,
                )
            )
        except BaseException as error:  # raised again below, in the caller's thread
            outcome.append(error)

    cpus = os.cpu_count() or 1
    share = 1.0 if execution.workers is None else cpus / min(execution.workers, cpus)
    backend: dict[str, Any] = {
        "client_resources": {"num_cpus": max(1, int(share)), "num_gpus": 0.0},
        "init_args": {"log_to_driver": False, "include_dashboard": False},
    }
    try:
        run_simulation(server_app, client_app, config.federation.clients, backend_config=backend)
    except RuntimeError as error:
        raise FedmendError(
            f"Flower's simulation engine failed: {in_one_line(error.__cause__ or error)}; see its messages above"
        ) from error
    if not outcome:
        raise FedmendError(
            "Flower's simulation engine ended before the federation began; see its messages above"
        )
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


@dataclass(frozen=True)
class GridFit:
    """A :class:`fedmend.federation.client_fit.Fit` that trains on the nodes of a grid, client n on the n-th node.

    Attributes:
        grid: of a ``ServerApp``.
        config: the federation's, from which each node makes its client.
        folder: the current folder, for relative paths and a user's own code.
    """

    grid: Grid
    config: SimulationConfig
    folder: str

    def __call__(
        self, model: nn.Module, clients: Sequence[Client], plan: RoundPlan
    ) -> list[Fitted | Refused]:
        """Train.

        Raises:
            FedmendError: a node failed, or didn't reply.
        """
        nodes = self._nodes()
        settings = json.dumps(self.config.to_dict())
        orders = {
            nodes[client.client_id]: TrainingOrder(settings, self.folder, plan.number, client.client_id)
            for client in clients
        }
        messages = [Message(order.content(model), node, MessageType.TRAIN) for node, order in orders.items()]
        contents: dict[int, RecordDict] = {}
        for reply in self.grid.send_and_receive(messages, timeout=_PATIENCE):
            node = reply.metadata.src_node_id
            if reply.has_error():
                raise FedmendError(
                    f"client {orders[node].client} failed on Flower's engine: {printable(reply.error.reason or '')}"
                )
            contents[node] = reply.content
        missing = [order.client for node, order in orders.items() if node not in contents]
        if missing:
            raise FedmendError(f"client {missing[0]} didn't reply on Flower's engine; see its messages above")
        device = device_of(model)
        return [fitted_in(contents[node], order.client, device) for node, order in orders.items()]

    def _nodes(self) -> list[int]:
        wanted, until = self.config.federation.clients, time.monotonic() + _FIRST_WAIT
        while len(nodes := sorted(self.grid.get_node_ids())) < wanted:
            if time.monotonic() > until:
                raise FedmendError(
                    f"Flower's engine has {len(nodes)} of {wanted} nodes after {_FIRST_WAIT:g} s"
                )
            time.sleep(0.05)
        return nodes
