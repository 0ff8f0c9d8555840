"""The coordinate-wise trimmed mean, which a Byzantine minority can't move far."""

from __future__ import annotations

from torch import Tensor

from fedmend.aggregation.base import Minority, State, Updates, byzantine_count
from fedmend.aggregation.columns import column_wise, finite_clients
from fedmend.checked_settings import settings
from fedmend.errors import DataError


@settings
class TrimmedMean:
    """The mean of each coordinate without its lowest and highest values.

    Yin et al., "Byzantine-Robust Distributed Learning" (2018), Definition 2. Deviations: the number of clients trimmed
    at either end is rounded up; non-finite deltas are dropped first. Numbers of examples are ignored, so a lie about
    them changes nothing. The server must see each delta, not only their sum. If few clients hold a class, trimming also
    discards their updates.

    Attributes:
        trim: fraction of the clients, in [0, 0.5), trimmed at either end; at least one client remains.
    """

    trim: Minority = 0.2

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`.

        Raises:
            DataError: no delta is finite.
        """
        clients = finite_clients(updates)
        return column_wise(updates.deltas, clients, lambda block: _trimmed(block, self.trim)), state


def mean_between(deltas: Tensor, trim: float) -> Tensor:
    """The trimmed mean, (P,), of deltas (clients, P); see :class:`TrimmedMean`.

    Raises:
        DataError: no delta is finite.
    """
    finite = deltas[deltas.isfinite().all(dim=1)]
    if len(finite) == 0:
        raise DataError("no client's update is finite; try a smaller [training] lr")
    return _trimmed(finite, trim)


def _trimmed(finite: Tensor, trim: float) -> Tensor:
    cut = min(byzantine_count(trim, len(finite)), (len(finite) - 1) // 2)
    return finite.sort(dim=0).values[cut : len(finite) - cut].mean(dim=0)
