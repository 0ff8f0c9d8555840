"""Aggregation rules: the clients' deltas of one round to one delta of the global model."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.errors import DataError


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


def norm_bounded(deltas: Tensor, counted: Tensor) -> Tensor:
    """The plain mean of the deltas, each scaled down to at most the median of their norms: none outweighs the others.

    A minority can't raise the median beyond what honest clients send. The server must see the norms, or the secure
    aggregation enforce a bound. After Sun et al., "Can You Really Backdoor Federated Learning?" (2019), whose bound
    is a constant.

    Args:
        deltas: float (clients, P). One that isn't finite is left out.
        counted: bool (P,), the places that make up the norm; the others are scaled with them.

    Returns:
        (P,).

    Raises:
        DataError: no delta is finite.
    """
    deltas = deltas[deltas.isfinite().all(dim=1)]
    if len(deltas) == 0:
        raise DataError("no client's update is finite; try a smaller [training] lr")
    norms = deltas[:, counted].double().norm(dim=1)
    factors = torch.where(norms > 0, norms.median() / norms, 1.0).clamp(max=1)
    return uniform_fedavg(deltas * factors.to(deltas)[:, None])
