"""From the folder of a simulated run to what a repair by votes may use.

Nothing here opens the folder ``attacker/``; the caller, who continues the simulation, provides the clients.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from fedmend.aggregation import aggregator_from_table
from fedmend.checkpoints import load_checkpoint
from fedmend.data import ImageSet
from fedmend.errors import ConfigError
from fedmend.federation import Federation, RunFolder, Server
from fedmend.federation.client_fit import Fit, fit_one_by_one
from fedmend.federation.root_training import root_client
from fedmend.federation.simulator import initial_model, laid_out
from fedmend.repairs.base import Participants


def round_model(
    run: RunFolder, images: ImageSet, round_number: int | None = None, device: torch.device | str = "cpu"
) -> nn.Module:
    """The global model after a round of a run, by default the last.

    Args:
        run: of ``fedmend simulate``.
        images: of the same shape and classes as the run's.
        round_number: the round.
        device: to load the model on.

    Raises:
        ConfigError: there is no such checkpoint. FedmendError: the model can't be built or loaded.
    """
    number = _last_round(run) if round_number is None else round_number
    if not run.checkpoint(number).exists():
        raise ConfigError(
            f"{run.path} has no checkpoint of round {number}; its last is of round {_last_round(run)}"
        )
    config = run.config()
    fresh = replace(config, model=replace(config.model, start=None, start_round=0))
    model = initial_model(fresh, images)
    load_checkpoint(run.checkpoint(number), model)
    return laid_out(model, images, device)


def participants_of(run: RunFolder, federation: Federation, fit: Fit = fit_one_by_one) -> Participants:
    """What the server of a run may use of its federation.

    Args:
        run: has the settings and the aggregation rule's state after the last round.
        federation: has the clients, and chooses those of each round.
        fit: trains the clients of a round.

    Raises:
        ConfigError: the run has no model yet, or its settings were damaged.
    """
    config, last = run.config(), _last_round(run)
    device = federation.clients[0].images.device
    state = {name: value.to(device) for name, value in run.aggregator_state(last).items()}
    channels, height, width = federation.clients[0].images.shape[1:]
    aggregator = aggregator_from_table(config.aggregation)
    root = root_client(aggregator, federation.clients, config.seed)
    return Participants(
        image_shape=(channels, height, width),
        clients=federation.clients,
        choose=federation.choose,
        last_round=last,
        training=config.training,
        server=Server(aggregator, config.federation.server_lr, state, root),
        seed=config.seed,
        fit=fit,
    )


def _last_round(run: RunFolder) -> int:
    number = run.last_round()
    if number is None:
        raise ConfigError(f"{run.path} holds no model yet; finish the run with fedmend simulate --resume")
    return number
