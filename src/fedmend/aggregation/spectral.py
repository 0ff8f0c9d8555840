"""Spectral anomaly detection: clients that stand out in a low-dimensional embedding of the updates are left out."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.aggregation.base import Minority, State, Updates, byzantine_count
from fedmend.aggregation.columns import finite_clients, inner_products, subset, weighted_sum
from fedmend.aggregation.coordinate_median import with_median_buffers
from fedmend.checked_settings import Count, settings


@settings
class Spectral:
    """The mean of the updates, without those that stand out most along the principal directions.

    Shejwalkar and Houmansadr, "Manipulating the Byzantine" (2021), Algorithm 2: updates are centred, and a client's
    score is its squared projection on the first right singular vector; those with the highest are dropped. Li et al.,
    "Learning to Detect Malicious Clients for Robust Federated Learning" (2020), embed with an autoencoder that needs
    public data; principal directions need none. Deviations: all parameters count, not a random part, because the
    projections follow from the inner products; clients are dropped one by one, each time with new directions, since one
    huge update hides other outliers. Buffers get the coordinate-wise median of the kept. Non-finite deltas are left
    out, and numbers of examples are ignored, so a lie about them changes nothing.

    Attributes:
        byzantine: the fraction of the clients, in [0, 0.5), that are dropped, rounded up.
        dimensions: of the embedding; the paper's is 1.
    """

    byzantine: Minority = 0.2
    dimensions: Count = 1

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`.

        Raises:
            DataError: no delta is finite.
        """
        kept = self._kept(updates)
        mean = weighted_sum(updates.deltas, kept, torch.full((len(kept),), 1 / len(kept)))
        return with_median_buffers(mean, updates, kept), state

    def prepare(self, updates: Updates) -> Updates:
        """See :class:`~fedmend.aggregation.Preparation`."""
        return subset(updates, self._kept(updates))

    def _kept(self, updates: Updates) -> Tensor:
        clients = finite_clients(updates)
        products = inner_products(updates.deltas, clients, updates.parameters)
        left = torch.arange(len(clients), device=clients.device)
        for _ in range(byzantine_count(self.byzantine, len(clients))):
            if len(left) > 1:
                scores = outlier_scores(products[left][:, left], self.dimensions)
                left = left[torch.arange(len(left), device=left.device) != scores.argmax()]
        return clients[left]


def outlier_scores(products: Tensor, dimensions: int) -> Tensor:
    """Squared norms, (n,), of the centred vectors' projections on their first principal directions.

    Args:
        products: the vectors' inner products, float64 (n, n).
        dimensions: how many directions.
    """
    scaled = products / products.diagonal().max().clamp(min=1e-300)
    centred = scaled - scaled.mean(0) - scaled.mean(1, keepdim=True) + scaled.mean()
    values, vectors = torch.linalg.eigh(centred)
    embedded: Tensor = vectors[:, -dimensions:] * values[-dimensions:].clamp(min=0).sqrt()
    return embedded.square().sum(dim=1)
