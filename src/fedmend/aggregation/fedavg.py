"""FedAvg: the mean of the clients' deltas, weighted by their numbers of examples or not."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.aggregation.base import State, Updates
from fedmend.settings import settings


@settings
class FedAvg:
    """The mean weighted by numbers of examples (federated-pruning paper, 3.1, first form).

    A client that claims many examples has much say, and one delta that isn't finite spoils the mean.
    """

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`: ``sum(n_i * delta_i) / sum(n_i)``."""
        return weighted_mean(updates.deltas, updates.num_examples), state


@settings
class UniformFedAvg:
    """The plain mean (federated-pruning paper, 3.1, simplified form): every client counts the same."""

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`."""
        return uniform_mean(updates.deltas), state


def weighted_mean(deltas: Tensor, num_examples: Tensor) -> Tensor:
    """``sum(n_i * delta_i) / sum(n_i)``, (P,), of deltas (clients, P) and numbers of examples (clients,)."""
    weights = num_examples.to(torch.float64) / num_examples.sum()
    return weights.to(deltas) @ deltas


def uniform_mean(deltas: Tensor) -> Tensor:
    """The mean, (P,), of deltas (clients, P)."""
    return weighted_mean(deltas, torch.ones(len(deltas), device=deltas.device))
