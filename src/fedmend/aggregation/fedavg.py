"""FedAvg: the mean of the clients' deltas, weighted by number of examples or uniform."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.aggregation.base import State, Updates
from fedmend.checked_settings import settings


@settings
class FedAvg:
    """The mean weighted by number of examples (federated-pruning paper, 3.1, first form).

    A client that claims many examples has a large weight, and a single non-finite delta makes the mean non-finite.
    """

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`: ``sum(n_i * delta_i) / sum(n_i)``."""
        return weighted_mean(updates.deltas, updates.num_examples), state


@settings
class UniformFedAvg:
    """The plain mean (federated-pruning paper, 3.1, simplified form): all clients have equal weight."""

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`."""
        return uniform_mean(updates.deltas), state


def weighted_mean(deltas: Tensor, num_examples: Tensor) -> Tensor:
    """``sum(n_i * delta_i) / sum(n_i)``, (P,), of deltas (clients, P) and numbers of examples (clients,)."""
    counts = num_examples.to(torch.float64)
    return (counts / counts.sum()).to(deltas) @ deltas


def uniform_mean(deltas: Tensor) -> Tensor:
    """The mean, (P,), of deltas (clients, P)."""
    return weighted_mean(deltas, torch.ones(len(deltas), device=deltas.device))
