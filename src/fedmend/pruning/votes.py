"""Ranking vote and majority vote on the channels to prune (federated-pruning paper, 4.1 and 4.2).

A client says how dormant each channel is on its own data, as ranks or as bits; the server adds the ballots up, one at
a time, in memory that grows with the clients' number by one byte each. Ballots are untrusted: a bad one is refused and
counted, and the vote goes on with the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from fedmend.errors import ConfigError, DataError
from fedmend.pruning.ballots import FLOATS, INTEGERS, Ballots, is_plain

Rule = Literal["mean", "median", "trimmed"]


def ranks(activations: Tensor) -> Tensor:
    """A client's ballot for the ranking vote: the place of each channel, 0 for the most dormant (4.1).

    Args:
        activations: mean activation of each channel on the client's data, (C,); of equal ones the first is lower.

    Returns:
        int64, (C,), each of 0 to C - 1 once.

    Raises:
        DataError: not a vector of finite numbers.
    """
    order = _vector(activations).argsort(stable=True)
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))


def bits(activations: Tensor, rates: Sequence[float]) -> Tensor:
    """A client's ballot for the majority vote: 0 for a channel to prune, 1 for one to keep (4.2).

    Args:
        activations: as for :func:`ranks`.
        rates: shares in (0, 1) of the channels to prune; several spare rounds.

    Returns:
        uint8, (len(rates), C).

    Raises:
        DataError: not a vector of finite numbers. ConfigError: a rate out of range.
    """
    if not rates or not all(0 < rate < 1 for rate in rates):
        raise ConfigError(f"pruning rates must be above 0 and below 1, at least one; got {list(rates)}")
    places = ranks(activations)
    pruned = torch.tensor([round(rate * len(places)) for rate in rates], device=places.device)
    return (places >= pruned[:, None]).to(torch.uint8)


def pruning_sequence(scores: Tensor) -> Tensor:
    """Channels in the order in which to prune them, the lowest score first; of equal ones the first first.

    Args:
        scores: (C,), of a vote; higher speaks for keeping.
    """
    return scores.argsort(stable=True)


class RankingVote(Ballots):
    """Adds up rankings (4.1): of each channel, how often it was given each place.

    From that the paper's mean place follows as well as the median and the trimmed mean, which a minority can't drag,
    in C x C numbers for any number of clients.

    Args:
        channels: C.
        num_clients: clients are numbered from 0 to one below this.

    Attributes:
        counted: ballots that count. refused: of the others, how many for each reason.

    Raises:
        ConfigError: no channels or no clients.
    """

    def __init__(self, channels: int, num_clients: int) -> None:
        super().__init__(num_clients)
        self.channels = _channels(channels)
        self._places = torch.zeros(channels, channels, dtype=torch.int64)
        self._rows = torch.arange(channels)
        self._starts = channels * self._rows

    def add(self, client: int, ballot: Tensor) -> str | None:
        """Count a client's ballot, made by :func:`ranks`; returns why it was refused, or None."""
        reason = self.admit(client, self._flaw(ballot))
        if reason is None:
            self._places.view(-1)[self._starts + ballot.cpu().long()] += 1
        return reason

    def scores(self, rule: Rule = "mean", trim: float = 0.3) -> Tensor:
        """The aggregated place of each channel, float64 (C,), for :func:`pruning_sequence`.

        Args:
            rule: "mean", the paper's; "median"; or "trimmed", the mean without the lowest and highest ballots.
            trim: share in [0, 0.5) of the ballots that "trimmed" leaves out at either end.

        Raises:
            DataError: no ballot counts. ConfigError: a setting out of range.
        """
        if rule not in ("mean", "median", "trimmed") or not 0 <= trim < 0.5:
            raise ConfigError(
                f"rule must be mean, median or trimmed and trim in [0, 0.5); got {rule!r}, {trim}"
            )
        if not self.counted:
            raise DataError(f"no ballot counts; refused were {dict(self.refused)}")
        cut = {
            "mean": 0,
            "median": (self.counted - 1) // 2,
            "trimmed": min(math.ceil(trim * self.counted - 1e-9), (self.counted - 1) // 2),
        }[rule]
        # Sorted by place, a channel's ballots from number `cut` up to `counted - cut` are kept.
        ends = self._places.cumsum(1)
        kept = ends.clamp(cut, self.counted - cut) - (ends - self._places).clamp(cut, self.counted - cut)
        return (kept * self._rows).sum(1).double() / (self.counted - 2 * cut)

    def _flaw(self, ballot: Tensor) -> str | None:
        if not isinstance(ballot, Tensor) or ballot.shape != (self.channels,):
            return "a ranking of another length"
        if not is_plain(ballot, INTEGERS):
            return "ranks that aren't whole numbers"
        if int(ballot.min()) < 0 or int(ballot.max()) >= self.channels:
            return "ranks out of range"
        seen = torch.zeros(self.channels, dtype=torch.bool, device=ballot.device)
        seen[ballot.long()] = True
        if not bool(seen.all()):
            return "repeated and missing ranks"
        return None


class MajorityVote(Ballots):
    """Adds up bits (4.2), for several pruning rates at once.

    The tally is a plain sum of vectors of 0 and 1, so that secure aggregation can give it without any ballot being
    seen; then no ballot can be checked either, and a sum beyond the number of ballots is all that gives a liar away.

    Args:
        channels: C.
        num_clients: as for :class:`RankingVote`.
        rates: how many pruning rates a ballot has.

    Attributes:
        tally: int64 (rates, C), how many clients want to keep each channel.
        counted, refused: as for :class:`RankingVote`.

    Raises:
        ConfigError: no channels, no clients or no rates.
    """

    def __init__(self, channels: int, num_clients: int, rates: int = 1) -> None:
        super().__init__(num_clients)
        self.channels = _channels(channels)
        if rates < 1:
            raise ConfigError(f"a majority vote needs a pruning rate, 1 or more; got {rates}")
        self.tally = torch.zeros(rates, channels, dtype=torch.int64)

    def add(self, client: int, ballot: Tensor) -> str | None:
        """Count a client's ballot, made by :func:`bits`; returns why it was refused, or None."""
        reason = self.admit(client, self._flaw(ballot))
        if reason is None:
            self.tally += ballot.cpu().long()
        return reason

    @classmethod
    def from_tally(cls, tally: Tensor, ballots: int) -> MajorityVote:
        """A vote whose ballots were added up elsewhere, as by secure aggregation.

        Args:
            tally: whole numbers (rates, C). ballots: how many clients' bits are in it.

        Raises:
            DataError: no such tally: somebody voted more than once, or with something other than bits.
        """
        if tally.ndim != 2 or not is_plain(tally, INTEGERS):
            raise DataError(
                f"a tally is of whole numbers, (rates, channels); got {tally.dtype} {tuple(tally.shape)}"
            )
        if ballots < 1 or int(tally.min()) < 0 or int(tally.max()) > ballots:
            raise DataError(
                f"a tally of {ballots} ballots holds numbers from 0 to {ballots}, of one ballot or more; got "
                f"{int(tally.min())} to {int(tally.max())}"
            )
        vote = cls(tally.shape[1], ballots, len(tally))
        vote.tally += tally.cpu()
        vote.counted, vote._answered = ballots, bytearray(b"\x01" * ballots)
        return vote

    def scores(self, rate: int = 0) -> Tensor:
        """The share of the ballots that keep each channel at the rate of that index, float64 (C,).

        Of channels that as many keep, the other rates decide: they add less than one ballot.

        Raises:
            DataError: no ballot counts.
        """
        if not self.counted:
            raise DataError(f"no ballot counts; refused were {dict(self.refused)}")
        own = self.tally[rate].double()
        others = self.tally.sum(0).double() - own
        return (own + others / (self.counted * len(self.tally))) / self.counted

    def _flaw(self, ballot: Tensor) -> str | None:
        if not isinstance(ballot, Tensor) or ballot.shape != self.tally.shape:
            return "bits of another shape"
        if not is_plain(ballot, (torch.bool, *INTEGERS, *FLOATS)):
            return "bits that aren't 0 or 1"
        if not bool(((ballot == 0) | (ballot == 1)).all()):
            return "bits that aren't 0 or 1"
        return None


def _channels(channels: int) -> int:
    if channels < 1:
        raise ConfigError(f"a vote needs channels, 1 or more; got {channels}")
    return channels


def _vector(activations: Tensor) -> Tensor:
    if activations.ndim != 1 or len(activations) == 0 or not bool(activations.isfinite().all()):
        raise DataError(
            f"mean activations must be a vector of finite numbers, one a channel; got {tuple(activations.shape)}, "
            f"{int((~activations.isfinite()).sum())} of them not finite"
        )
    return activations
