"""A simulated client's training as messages: the order to a node, what the node does, and its reply."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import cast

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from torch import nn

from fedmend.data import load_images
from fedmend.errors import DataError
from fedmend.federation import (
    ClientUpdate,
    Federation,
    Refused,
    build_federation,
    initial_model,
    parse_config,
)
from fedmend.federation.client_fit import Fitted, fit_client
from fedmend.federation.simulator import laid_out

_ORDER, _MODEL = "fedmend-order", "fedmend-model"
_UPDATE, _BUFFERS, _METRICS, _REFUSED = "update", "buffers", "metrics", "refused"


@dataclass(frozen=True)
class TrainingOrder:
    """Which client a node is, and what it trains in.

    Attributes:
        settings: the federation's, as JSON.
        folder: for relative paths and a user's own code.
        round: the round's number.
        client: the client's.
    """

    settings: str
    folder: str
    round: int
    client: int

    def content(self, model: nn.Module) -> RecordDict:
        """The message's content, with the global model."""
        order = ConfigRecord(
            {"settings": self.settings, "folder": self.folder, "round": self.round, "client": self.client}
        )
        return RecordDict({_ORDER: order, _MODEL: ArrayRecord(dict(model.state_dict()))})


def train(content: RecordDict) -> RecordDict:
    """Train as the simulator's own workers do, with one thread and the client's own seed of the round."""
    order = content.config_records[_ORDER]
    torch.set_num_threads(1)
    os.chdir(str(order["folder"]))
    federation, model = _workplace(str(order["settings"]))
    model.load_state_dict(content.array_records[_MODEL].to_torch_state_dict())
    number = cast(int, order["round"])
    client = next(each for each in federation.choose(number) if each.client_id == order["client"])
    fitted = fit_client(model, client, federation.plan(number))
    if isinstance(fitted, Refused):
        return RecordDict({_REFUSED: ConfigRecord({"reason": fitted.reason})})
    update, buffers = fitted
    return RecordDict(
        {
            _UPDATE: ArrayRecord({"delta": Array(update.delta.numpy())}),
            _BUFFERS: ArrayRecord(dict(buffers)),
            _METRICS: MetricRecord({"num-examples": update.num_examples}),
        }
    )


def fitted_in(content: RecordDict, client: int, device: torch.device) -> Fitted | Refused:
    """What a node of the simulation sent, on the server's device.

    Raises:
        DataError: something else than :func:`train` sends.
    """
    if _REFUSED in content:
        return Refused(client, str(content.config_records[_REFUSED]["reason"]))
    if _UPDATE not in content:
        raise DataError(
            f"client {client} sent no update on Flower's engine; are all nodes of one version of fedmend?"
        )
    delta = torch.from_numpy(content.array_records[_UPDATE]["delta"].numpy()).to(device)
    buffers = dict(content.array_records[_BUFFERS].to_torch_state_dict())
    return ClientUpdate(client, cast(int, content.metric_records[_METRICS]["num-examples"]), delta), buffers


@lru_cache(maxsize=1)
def _workplace(settings: str) -> tuple[Federation, nn.Module]:
    """What a worker process makes once: all clients with their images, and a model to train."""
    config = parse_config(json.loads(settings))
    images = load_images(config.data.source, "train")
    fresh = replace(config, model=replace(config.model, start=None, start_round=0))
    return build_federation(config, images), laid_out(initial_model(fresh, images), images, "cpu")
