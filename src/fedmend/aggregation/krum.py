"""Krum and Multi-Krum: the updates that lie closest to most others."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.aggregation.base import Minority, State, Updates, byzantine_count
from fedmend.aggregation.columns import (
    finite_clients,
    inner_products,
    squared_distances,
    subset,
    weighted_sum,
)
from fedmend.aggregation.coordinate_median import with_median_buffers
from fedmend.checked_settings import PositiveFraction, settings


@settings
class Krum:
    """The one update with the smallest sum of squared distances to its nearest others.

    Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent" (2017), section 4. Of n
    clients with f Byzantine ones, n - f - 2 nearest count, at least one. The guarantee needs n > 2f + 2. Deviations:
    distances are over parameters, and buffers get the coordinate-wise median of all clients; non-finite deltas are
    left out first. Numbers of examples are ignored, so a lie about them changes nothing.

    Attributes:
        byzantine: the fraction of the clients, in [0, 0.5), that may be Byzantine; f is rounded up.
    """

    byzantine: Minority = 0.2

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`.

        Raises:
            DataError: no delta is finite.
        """
        clients, scores, _ = _scored(updates, self.byzantine)
        best = updates.deltas[clients[scores.argmin()]].clone()
        return with_median_buffers(best, updates, clients), state


@settings
class MultiKrum:
    """The mean of the updates with the best Krum scores (Blanchard et al. 2017, section 5).

    See :class:`Krum` for the deviations, non-finite deltas and numbers of examples. Before another rule it keeps those
    clients' updates.

    Attributes:
        byzantine: as for :class:`Krum`.
        keep: the fraction of the clients, in (0, 1], whose updates are kept, rounded down, at least one. None: n - f -
            2 clients (El Mhamdi et al. 2018, section 3.2: the most for which the guarantee holds), at least one.
    """

    byzantine: Minority = 0.2
    keep: PositiveFraction | None = None

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`.

        Raises:
            DataError: no delta is finite.
        """
        kept, clients = self._kept(updates)
        mean = weighted_sum(updates.deltas, kept, torch.full((len(kept),), 1 / len(kept)))
        return with_median_buffers(mean, updates, clients), state

    def prepare(self, updates: Updates) -> Updates:
        """See :class:`~fedmend.aggregation.Preparation`."""
        return subset(updates, self._kept(updates)[0])

    def _kept(self, updates: Updates) -> tuple[Tensor, Tensor]:
        clients, scores, byzantine = _scored(updates, self.byzantine)
        count = len(clients) - byzantine - 2 if self.keep is None else int(self.keep * len(clients) + 1e-9)
        return clients[scores.argsort(stable=True)[: max(1, count)]].sort().values, clients


def _scored(updates: Updates, fraction: float) -> tuple[Tensor, Tensor, int]:
    """The finite clients' places, their scores, and the number of Byzantine clients."""
    clients = finite_clients(updates)
    byzantine = byzantine_count(fraction, len(clients))
    products = inner_products(updates.deltas, clients, updates.parameters)
    return clients, krum_scores(squared_distances(products), byzantine), byzantine


def krum_scores(distances: Tensor, byzantine: int) -> Tensor:
    """Each client's sum of squared distances to its n - f - 2 nearest others, at least one: (n,).

    Args:
        distances: squared, (n, n), 0 on the diagonal.
        byzantine: f.
    """
    nearest = max(1, len(distances) - byzantine - 2)
    others = distances.clone().fill_diagonal_(-1).sort(dim=1).values[:, 1:]
    return others[:, :nearest].sum(dim=1)
