"""Norm clipping: no client moves the model further than a limit, and weak noise covers what is left."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fedmend.aggregation.base import State, Updates
from fedmend.aggregation.columns import finite_clients, norms_of, subset, weighted_sum
from fedmend.aggregation.coordinate_median import median_of, with_median_buffers
from fedmend.aggregation.weak_noise import with_noise
from fedmend.checked_settings import Natural, NonNegative, Positive, settings


@settings
class Clip:
    """Scale each update down to an L2 norm of at most ``limit``; a step before another rule (see :class:`.Chain`).

    Sun et al., "Can You Really Backdoor Federated Learning?" (2019), section 4.2. The norm is over parameters; buffers
    stay as they are. Non-finite deltas are left out.

    Attributes:
        limit: the largest norm; None: the median of the round's norms.
    """

    limit: Positive | None = None

    def prepare(self, updates: Updates) -> Updates:
        """See :class:`~fedmend.aggregation.Preparation`.

        Raises:
            DataError: no delta is finite.
        """
        clients = finite_clients(updates)
        factors = clipping_factors(norms_of(updates, clients), self.limit)
        kept = subset(updates, clients)
        deltas = kept.deltas.clone() if kept is updates else kept.deltas
        parameters = updates.parameters.to(deltas.device)
        for delta, factor in zip(deltas, factors.to(deltas), strict=True):
            delta.mul_(torch.where(parameters, factor, 1))
        return replace(kept, deltas=deltas)


@settings
class NormClipping:
    """The mean of clipped updates, with Gaussian noise (Sun et al. 2019, section 4.2; see :class:`Clip`).

    Deviations: all clients weigh the same, so a lie about numbers of examples changes nothing, and buffers get their
    coordinate-wise median. Non-finite deltas are left out. The noise is weak: it is no differential privacy.

    With noise, its state is ``noise_round``, the number of rounds so far.

    Attributes:
        limit: the largest norm; None: the median of the round's norms.
        noise: the standard deviation of the noise on each parameter; the paper's is 0.001 to 0.1.
        seed: of the noise.
    """

    limit: Positive | None = None
    noise: NonNegative = 0.0
    seed: Natural = 0

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`.

        Raises:
            DataError: no delta is finite.
        """
        clients = finite_clients(updates)
        mean = clipped_mean(updates, clients, clipping_factors(norms_of(updates, clients), self.limit))
        return with_noise(with_median_buffers(mean, updates, clients), updates, self.noise, self.seed, state)


def clipping_factors(norms: Tensor, limit: float | None) -> Tensor:
    """By what each update is multiplied, (n,) in (0, 1]; ``limit`` None is the median of the norms (n,)."""
    largest = median_of(norms) if limit is None else torch.as_tensor(limit).to(norms)
    return (largest / norms.clamp(min=1e-150)).clamp(max=1)


def clipped_mean(updates: Updates, clients: Tensor, factors: Tensor) -> Tensor:
    """The mean, (P,), of some clients' deltas, each times its factor; ``clients`` and ``factors`` are (n,)."""
    return weighted_sum(updates.deltas, clients, factors / len(clients))
