"""FedAvg: the mean of the clients' deltas, weighted by number of examples or uniform."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fedmend.aggregation.base import State, Updates
from fedmend.aggregation.columns import finite_clients, weighted_sum
from fedmend.checked_settings import settings

Ratio = Annotated[float, Field(ge=1, strict=True, allow_inf_nan=False)]


@settings
class FedAvg:
    """The mean weighted by number of examples (federated-pruning paper, 3.1, first form).

    Deviation: a client weighs at most ``most`` times as much as the client in the middle, so that nobody gets the model
    by claiming a billion examples. Non-finite deltas are left out. An update's size isn't limited.

    Attributes:
        most: at least 1; the largest number of examples that counts, as a multiple of the round's lower median.
    """

    most: Ratio = 10.0

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`: ``sum(n_i * delta_i) / sum(n_i)``.

        Raises:
            DataError: no delta is finite.
        """
        return finite_weighted_mean(updates, capped(updates.num_examples, self.most)), state


@settings
class UniformFedAvg:
    """The plain mean (federated-pruning paper, 3.1, simplified form): all clients have equal weight.

    Non-finite deltas are left out, and numbers of examples are ignored, so a lie about them changes nothing.
    """

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`.

        Raises:
            DataError: no delta is finite.
        """
        return finite_weighted_mean(updates, torch.ones_like(updates.num_examples)), state


def weighted_mean(deltas: Tensor, num_examples: Tensor) -> Tensor:
    """``sum(n_i * delta_i) / sum(n_i)``, (P,), of deltas (clients, P) and numbers of examples (clients,)."""
    counts = num_examples.to(torch.float64)
    return (counts / counts.sum()).to(deltas) @ deltas


def finite_weighted_mean(updates: Updates, num_examples: Tensor) -> Tensor:
    """The weighted mean, (P,), of the finite deltas.

    Raises:
        DataError: no delta is finite.
    """
    clients = finite_clients(updates)
    if len(clients) == len(updates.deltas):
        return weighted_mean(updates.deltas, num_examples)
    counts = num_examples.to(clients.device)[clients].double()
    return weighted_sum(updates.deltas, clients, counts / counts.sum())


def capped(num_examples: Tensor, most: float) -> Tensor:
    """Numbers of examples (clients,) of at most ``most`` times their lower median, float64."""
    counts = num_examples.double()
    return counts.clamp(max=most * counts.median())


def uniform_mean(deltas: Tensor) -> Tensor:
    """The mean, (P,), of deltas (clients, P)."""
    return weighted_mean(deltas, torch.ones(len(deltas), device=deltas.device))
