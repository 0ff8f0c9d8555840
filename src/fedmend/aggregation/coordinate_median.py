"""The coordinate-wise median of the updates, and that of the buffers alone for rules that weigh whole clients."""

from __future__ import annotations

from torch import Tensor

from fedmend.aggregation.base import State, Updates
from fedmend.aggregation.columns import column_wise, finite_clients
from fedmend.checked_settings import settings


@settings
class CoordinateMedian:
    """Each coordinate's median (Yin et al., "Byzantine-Robust Distributed Learning", 2018, Definition 1).

    With an even number of clients it is the mean of the two in the middle. Non-finite deltas are left out, and numbers
    of examples are ignored, so a lie about them changes nothing. It works on a block of coordinates at a time.
    """

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`.

        Raises:
            DataError: no delta is finite.
        """
        return column_wise(updates.deltas, finite_clients(updates), median_of), state


def median_of(block: Tensor) -> Tensor:
    """The median of each column, (m,), of finite values (n, m)."""
    ordered, half = block.sort(dim=0).values, len(block) // 2
    if len(block) % 2:
        return ordered[half]
    return ordered[half - 1] / 2 + ordered[half] / 2


def with_median_buffers(delta: Tensor, updates: Updates, clients: Tensor) -> Tensor:
    """A delta (P,) whose buffers are replaced by the coordinate-wise median of those of ``clients`` (n,).

    A rule that compares clients by their parameters would otherwise let an attacker with an ordinary direction send
    any running statistics.
    """
    buffers = ~updates.parameters.to(delta.device)
    if not bool(buffers.any()):
        return delta
    result = delta.clone()
    result[buffers] = median_of(updates.deltas[:, buffers][clients])
    return result
