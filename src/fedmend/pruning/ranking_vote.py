"""The ranking vote on the channels to prune (federated-pruning paper, 4.1).

Each client ranks the channels by their mean activation on its own data; the server aggregates the ranks. Ballots are
untrusted: an invalid one is refused and counted, and the vote uses the rest.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from fedmend.errors import ConfigError, DataError
from fedmend.pruning.ballots import Ballots, require_activations, require_channels
from fedmend.untrusted import INTEGERS, plain_tensor

Rule = Literal["mean", "median", "trimmed"]


def ranks(activations: Tensor) -> Tensor:
    """A client's ballot: the rank of each channel, 0 for the most dormant (4.1).

    Args:
        activations: mean activation of each channel on the client's data, (C,); ties keep the channels' order.

    Returns:
        int64 (C,), a permutation of 0 to C - 1.

    Raises:
        DataError: not a vector of finite numbers.
    """
    order = require_activations(activations).argsort(stable=True)
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))


class RankingVote(Ballots):
    """Aggregates rankings: counts how often each channel got each rank.

    For any number of clients, these C x C counts determine the paper's mean rank as well as the median and the trimmed
    mean, which a Byzantine minority cannot move far.

    Args:
        channels: C.
        num_clients: number of clients, numbered from 0.

    Attributes:
        counted: number of valid ballots. refused: number of others, by reason.

    Raises:
        ConfigError: no channels or no clients.
    """

    def __init__(self, channels: int, num_clients: int) -> None:
        super().__init__(num_clients)
        self.channels = require_channels(channels)
        self._counts = torch.zeros(channels, channels, dtype=torch.int64)
        self._ranks = torch.arange(channels)
        self._rows = channels * self._ranks

    def add(self, client: int, ballot: Tensor) -> str | None:
        """Count a client's ballot, made by :func:`ranks`; returns why it was refused, or None."""
        ranking = plain_tensor(ballot, INTEGERS, (self.channels,))
        reason = self.admit(client, self._flaw(ranking))
        if reason is None and ranking is not None:
            self._counts.view(-1)[self._rows + ranking.long()] += 1
        return reason

    def scores(self, rule: Rule = "mean", trim: float = 0.3) -> Tensor:
        """The aggregated rank of each channel, float64 (C,); the lowest is pruned first.

        Args:
            rule: "mean", the paper's; "median"; or "trimmed", the mean without the lowest and highest ranks.
            trim: fraction in [0, 0.5) of the ballots that "trimmed" drops at either end.

        Raises:
            DataError: there is no valid ballot. ConfigError: a setting is out of range.
        """
        if rule not in ("mean", "median", "trimmed") or not 0 <= trim < 0.5:
            raise ConfigError(
                f"rule must be mean, median or trimmed and trim in [0, 0.5); got {rule!r}, {trim}"
            )
        if not self.counted:
            raise DataError(f"there is no valid ballot; refused: {dict(self.refused)}")
        cut = {
            "mean": 0,
            "median": (self.counted - 1) // 2,
            "trimmed": min(math.ceil(trim * self.counted - 1e-9), (self.counted - 1) // 2),
        }[rule]
        # Of a channel's ballots, sorted by rank, numbers `cut` to `counted - cut` are kept.
        ends = self._counts.cumsum(1)
        kept = ends.clamp(cut, self.counted - cut) - (ends - self._counts).clamp(cut, self.counted - cut)
        return (kept * self._ranks).sum(1).double() / (self.counted - 2 * cut)

    def _flaw(self, ranking: Tensor | None) -> str | None:
        if ranking is None:
            return "a ranking of the wrong length or kind"
        if int(ranking.min()) < 0 or int(ranking.max()) >= self.channels:
            return "ranks out of range"
        seen = torch.zeros(self.channels, dtype=torch.bool)
        seen[ranking.long()] = True
        if not bool(seen.all()):
            return "repeated and missing ranks"
        return None
