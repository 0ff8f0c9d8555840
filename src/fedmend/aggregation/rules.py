"""Aggregation rules: the clients' deltas of one round to one delta of the global model."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fedmend.errors import ConfigError, DataError


def fedavg(deltas: Tensor, num_examples: Tensor, server_lr: float = 1.0) -> Tensor:
    """FedAvg weighted by the clients' numbers of examples (pruning paper, 3.1, first form).

    Args:
        deltas: float (clients, P), each client's change of the model.
        num_examples: (clients,), above 0.
        server_lr: the paper's eta, by which the average is multiplied.

    Returns:
        (P,): ``server_lr * sum(n_i * delta_i) / sum(n_i)``.

    Raises:
        DataError: no client, or a client without examples.
    """
    if deltas.ndim != 2 or len(deltas) == 0 or num_examples.shape != deltas.shape[:1]:
        raise DataError(
            f"fedavg needs deltas (clients, P) and num_examples (clients,), of one client or more; "
            f"got {tuple(deltas.shape)} and {tuple(num_examples.shape)}"
        )
    if bool((num_examples <= 0).any()):
        raise DataError("fedavg needs clients with at least one example each")
    weights = num_examples.to(torch.float64) / num_examples.sum()
    return server_lr * (weights.to(deltas) @ deltas)


def uniform_fedavg(deltas: Tensor) -> Tensor:
    """The plain mean of the deltas (clients, P) (pruning paper, 3.1, simplified form): sizes don't count.

    Raises:
        DataError: no client.
    """
    return fedavg(deltas, torch.ones(len(deltas), device=deltas.device))


def trimmed_mean(deltas: Tensor, trim: float) -> Tensor:
    """The mean of each place without its lowest and its highest deltas, so that a minority can't drag it.

    After Yin et al., "Byzantine-Robust Distributed Learning" (2018). The server must see the deltas, not their sum
    alone; where a class is with few clients, what they alone would change is cut off with the attackers' part.

    Args:
        deltas: float (clients, P). One that isn't finite is left out.
        trim: share in [0, 0.5) of the clients, rounded up, that is left out at either end; one stays always.

    Returns:
        (P,).

    Raises:
        DataError: no delta is finite. ConfigError: ``trim`` is out of range.
    """
    if not 0 <= trim < 0.5:
        raise ConfigError(f"trim must be in [0, 0.5); got {trim}")
    finite = deltas[deltas.isfinite().all(dim=1)]
    if len(finite) == 0:
        raise DataError("no client's update is finite; try a smaller [training] lr")
    cut = min(math.ceil(trim * len(finite) - 1e-9), (len(finite) - 1) // 2)
    return finite.sort(dim=0).values[cut : len(finite) - cut].mean(dim=0)
