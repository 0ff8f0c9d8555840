"""Bulyan: Krum chooses the clients, then each coordinate is a mean around the median."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.aggregation.base import Minority, State, Updates, byzantine_count
from fedmend.aggregation.columns import column_wise, finite_clients, inner_products, squared_distances
from fedmend.aggregation.coordinate_median import median_of
from fedmend.aggregation.krum import krum_scores
from fedmend.checked_settings import settings


@settings
class Bulyan:
    """Krum's choices one after the other, then each coordinate's mean of the values nearest to their median.

    El Mhamdi, Guerraoui and Rouault, "The Hidden Vulnerability of Distributed Learning in Byzantium" (2018), section 4:
    of n clients with f Byzantine ones, Krum chooses theta = n - 2f, and in each coordinate the beta = theta - 2f values
    nearest to the median count. The guarantee needs n >= 4f + 3; with fewer clients, theta and beta are at least one,
    which ends in the median of the chosen. Non-finite deltas are left out, and numbers of examples are ignored, so a
    lie about them changes nothing. Krum compares parameters only.

    Attributes:
        byzantine: the fraction of the clients, in [0, 0.5), that may be Byzantine; f is rounded up.
    """

    byzantine: Minority = 0.2

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`.

        Raises:
            DataError: no delta is finite.
        """
        clients = finite_clients(updates)
        byzantine = byzantine_count(self.byzantine, len(clients))
        distances = squared_distances(inner_products(updates.deltas, clients, updates.parameters))
        chosen = bulyan_choice(distances, byzantine)
        nearest = max(1, len(chosen) - 2 * byzantine)
        if nearest == 1:
            return column_wise(updates.deltas, clients[chosen], median_of), state
        return column_wise(
            updates.deltas, clients[chosen], lambda block: mean_near_median(block, nearest)
        ), state


def bulyan_choice(distances: Tensor, byzantine: int) -> Tensor:
    """The places, ascending, of the n - 2f clients, at least one, that Krum chooses one after the other.

    Args:
        distances: squared, (n, n), 0 on the diagonal.
        byzantine: f.
    """
    left = torch.arange(len(distances), device=distances.device)
    chosen = []
    for _ in range(max(1, len(distances) - 2 * byzantine)):
        best = int(krum_scores(distances[left][:, left], byzantine).argmin()) if len(left) > 1 else 0
        chosen.append(int(left[best]))
        left = left[torch.arange(len(left), device=left.device) != best]
    return torch.tensor(sorted(chosen), device=distances.device)


def mean_near_median(block: Tensor, nearest: int) -> Tensor:
    """Each column's mean, (m,), of the ``nearest`` values that are closest to the column's median; of (n, m)."""
    order = (block - median_of(block)).abs().argsort(dim=0, stable=True)[:nearest]
    return block.gather(0, order).mean(dim=0)
