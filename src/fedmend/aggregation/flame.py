"""FLAME: the largest cluster of directions, clipped to the median norm, with noise."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.aggregation.base import State, Updates
from fedmend.aggregation.columns import finite_clients, inner_products, norms_of
from fedmend.aggregation.coordinate_median import median_of, with_median_buffers
from fedmend.aggregation.norm_clipping import clipped_mean, clipping_factors
from fedmend.aggregation.weak_noise import with_noise
from fedmend.checked_settings import Natural, NonNegative, settings


@settings
class FLAME:
    """Cluster the updates by cosine, drop those outside the majority, clip the rest to the median norm, add noise.

    Nguyen et al., "FLAME: Taming Backdoors in Federated Learning" (2022), Algorithm 1. Its HDBSCAN asks for a cluster
    of more than half of the clients, of which there is at most one; what it finds is the tightest single-linkage
    component of that size (see :func:`majority_component`). The limit is the median norm of all updates. Deviations: it
    clusters updates, not models, so the global model doesn't hide the differences; buffers get the coordinate-wise
    median of the admitted. Non-finite deltas are left out, and numbers of examples are ignored, so a lie about them
    changes nothing.

    With noise, its state is ``noise_round``, the number of rounds so far.

    Attributes:
        noise: the paper's lambda: the noise's standard deviation, as a multiple of the median norm.
        seed: of the noise.
    """

    noise: NonNegative = 0.001
    seed: Natural = 0

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`.

        Raises:
            DataError: no delta is finite.
        """
        clients = finite_clients(updates)
        products = inner_products(updates.deltas, clients, updates.parameters)
        norms = norms_of(updates, clients)
        admitted = majority_component(cosine_distances(products))
        limit = float(median_of(norms))
        factors = clipping_factors(norms, max(limit, 1e-150))[admitted]
        mean = clipped_mean(updates, clients[admitted], factors)
        mean = with_median_buffers(mean, updates, clients[admitted])
        return with_noise(mean, updates, self.noise * limit, self.seed, state)


def cosine_distances(products: Tensor) -> Tensor:
    """``1 - cosine``, float64 (n, n), of vectors with these inner products; a zero vector is 1 from all others."""
    norms = products.diagonal().sqrt().clamp(min=1e-150)
    return (1 - products / norms[:, None] / norms[None, :]).clamp_(min=0).fill_diagonal_(0)


def majority_component(distances: Tensor) -> Tensor:
    """The places, ascending, of the tightest group of more than half of the clients.

    Clients at most a threshold apart are joined, directly or through others (single linkage). The threshold rises until
    one component has more than half of the clients.

    Args:
        distances: (n, n), symmetric.
    """
    count = len(distances)
    component = torch.arange(count)
    for edge in distances.flatten().argsort(stable=True).tolist():
        one, other = component[edge // count].item(), component[edge % count].item()
        component[component == other] = one
        members = (component == one).nonzero().flatten()
        if len(members) > count // 2:
            break
    return members.to(distances.device)
