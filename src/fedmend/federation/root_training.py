"""The server's own training, on clean images of its own, for rules that compare the clients' updates with it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from fedmend.aggregation import Aggregator, Updates
from fedmend.checked_settings import Count, require
from fedmend.errors import DivergedError
from fedmend.federation.client_fit import Refused, RoundPlan, fit_client
from fedmend.federation.clients import Client
from fedmend.seeds import generator

_SERVER = -1


def root_client(aggregator: Aggregator, clients: Sequence[Client], seed: int) -> Client | None:
    """The server as a client with images of its own, if the rule wants that.

    Args:
        aggregator: wants it if it has an attribute ``root_images``, the number of images, that isn't None.
        clients: of the federation. The images are drawn from all of theirs, evenly, before anyone poisons them.
        seed: of the draw.

    Raises:
        ConfigError: ``root_images`` isn't a whole number from 1.
    """
    wanted = getattr(aggregator, "root_images", None)
    if wanted is None:
        return None
    require(wanted, Count, "the aggregation rule's root_images")
    owners = torch.repeat_interleave(
        torch.arange(len(clients)), torch.tensor([len(each.images) for each in clients])
    )
    places = torch.cat([torch.arange(len(each.images)) for each in clients])
    drawn = torch.randperm(len(owners), generator=generator(seed, "root images"))[:wanted].tolist()
    picked = [(clients[int(owners[index])], int(places[index])) for index in drawn]
    return Client(
        _SERVER,
        torch.stack([client.images[place] for client, place in picked]),
        torch.stack([client.labels[place] for client, place in picked]),
    )


def with_server_delta(updates: Updates, model: nn.Module, plan: RoundPlan, root: Client | None) -> Updates:
    """The updates together with what training on the server's own images makes of the global model.

    Raises:
        DivergedError: that training diverged.
    """
    if root is None:
        return updates
    fitted = fit_client(deepcopy(model), root, plan)
    if isinstance(fitted, Refused):
        raise DivergedError(
            f"round {plan.number}: the server's own training on {len(root.images)} root images can't be used: "
            f"{fitted.reason}; try a smaller [training] lr"
        )
    return replace(updates, server_delta=fitted[0].delta)
