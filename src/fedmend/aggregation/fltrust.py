"""FLTrust: clients are trusted as far as they agree with the server's own update on a few clean images."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.aggregation.base import State, Updates
from fedmend.aggregation.columns import column_wise, finite_clients, norms_of
from fedmend.checked_settings import Count, settings
from fedmend.errors import DataError


@settings
class FLTrust:
    """The mean of the updates, scaled to the norm of the server's own, weighted by the cosine with it.

    Cao et al., "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping" (2021), section 4: the trust
    score is ``relu(cos(delta_i, delta_0))``. If nobody is trusted, the parameters stay as they are. Deviation: norms
    and cosines are over parameters, and buffers are the server's own. Non-finite deltas are left out, and numbers of
    examples are ignored, so a lie about them changes nothing.

    Attributes:
        root_images: how many clean images the server trains on; the paper's is 100. A simulation draws them from the
            training images of all clients, and trains with the clients' settings.
    """

    root_images: Count = 100

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`.

        Raises:
            DataError: no delta is finite, or the updates come without the server's own.
        """
        own = updates.server_delta
        if own is None:
            raise DataError(
                "FLTrust compares clients with the server's own update, and there is none; pass it as server_delta, or "
                'simulate with [aggregation] kind = "fltrust", which trains it'
            )
        own, clients = own.to(updates.deltas), finite_clients(updates)
        parameters = updates.parameters.to(own.device)
        direction = own.where(parameters, 0).double()
        size, norms = direction.norm(), norms_of(updates, clients).clamp(min=1e-150)
        units = (updates.deltas[place].double() / norm for place, norm in zip(clients, norms, strict=True))
        cosines = torch.stack([unit @ direction for unit in units]) / size.clamp(min=1e-150)
        weights = trust_weights(cosines) * size / norms  # of a tiny update, beyond float32
        mean = column_wise(updates.deltas, clients, lambda block: weights @ block.double())
        return mean.where(parameters, own), state


def trust_weights(cosines: Tensor) -> Tensor:
    """The trust scores, ``relu`` of the cosines (n,), divided by their sum; all 0 if nobody is trusted."""
    trust = cosines.clamp(0, 1)
    return trust / trust.sum().clamp(min=1e-150)
