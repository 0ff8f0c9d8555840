"""RFA: the geometric median of the updates, by the smoothed Weiszfeld algorithm."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.aggregation.base import State, Updates
from fedmend.aggregation.columns import finite_clients, inner_products, squared_distances, weighted_sum
from fedmend.aggregation.coordinate_median import with_median_buffers
from fedmend.checked_settings import Count, Positive, settings

_CONVERGED = 1e-10


@settings
class GeometricMedian:
    """The vector with the smallest sum of Euclidean distances to the updates.

    Pillutla, Kakade and Harchaoui, "Robust Aggregation for Federated Learning" (2022), Algorithm 2: from v, weights
    ``beta_i = 1 / max(smoothing, |v - delta_i|)``, then ``v = sum(beta_i delta_i) / sum(beta_i)``, and again.
    Deviations: all clients weigh the same, where the paper weighs by numbers of examples, so a lie about them changes
    nothing; it starts from the mean of the half of the clients that lie closest to the others, not from the mean; it
    iterates on inner products, so that the updates are read twice, and ends when the weights stay the same. Distances
    are over parameters, and buffers get their coordinate-wise median. Non-finite deltas are left out.

    Attributes:
        smoothing: the paper's nu, a distance below which weights no longer grow.
        iterations: at most so many.
    """

    smoothing: Positive = 1e-6
    iterations: Count = 1000

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`.

        Raises:
            DataError: no delta is finite.
        """
        clients = finite_clients(updates)
        products = inner_products(updates.deltas, clients, updates.parameters)
        weights = weiszfeld_weights(products, self.smoothing, self.iterations)
        return with_median_buffers(weighted_sum(updates.deltas, clients, weights), updates, clients), state


def weiszfeld_weights(products: Tensor, smoothing: float, iterations: int) -> Tensor:
    """The geometric median as weights, (n,) with sum 1, of vectors with these inner products, float64 (n, n)."""
    closest = squared_distances(products).sqrt().sum(dim=1).argsort(stable=True)[: (len(products) + 1) // 2]
    weights = torch.zeros(len(products), dtype=products.dtype, device=products.device)
    weights[closest] = 1 / len(closest)
    for _ in range(iterations):
        projected = products @ weights
        squared = products.diagonal() - 2 * projected + weights @ projected
        raw = 1 / squared.clamp(min=0).sqrt().clamp(min=smoothing)
        after = raw / raw.sum()
        moved = float((after - weights).abs().max())
        weights = after
        if moved < _CONVERGED:
            break
    return weights
