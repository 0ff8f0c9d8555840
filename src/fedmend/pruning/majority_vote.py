"""The majority vote on the channels to prune (federated-pruning paper, 4.2).

Each client votes, with one bit per channel, for the channels to keep; the server sums the bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedmend.errors import ConfigError, DataError
from fedmend.pruning.ballots import Ballots, require_channels
from fedmend.pruning.ranking_vote import ranks
from fedmend.untrusted import FLOATS, INTEGERS, is_plain, plain_tensor


def bits(activations: Tensor, rates: Sequence[float]) -> Tensor:
    """A client's ballot: 0 for a channel to prune, 1 for one to keep (4.2).

    Args:
        activations: mean activation of each channel on the client's data, (C,).
        rates: fractions in (0, 1) of the channels to prune; several in one ballot save rounds.

    Returns:
        uint8 (len(rates), C).

    Raises:
        DataError: not a vector of finite numbers. ConfigError: a rate is out of range.
    """
    if not rates or not all(0 < rate < 1 for rate in rates):
        raise ConfigError(f"pruning rates must be above 0 and below 1, at least one; got {list(rates)}")
    places = ranks(activations)
    pruned = torch.tensor([round(rate * len(places)) for rate in rates], device=places.device)
    return (places >= pruned[:, None]).to(torch.uint8)


class MajorityVote(Ballots):
    """Sums bits, for several pruning rates at once.

    The tally is a plain sum of 0/1 vectors, so secure aggregation can compute it without revealing a ballot. Then no
    single ballot can be checked, and only a sum above the number of ballots reveals cheating.

    Args:
        channels: C.
        num_clients: number of clients, numbered from 0.
        rates: pruning rates per ballot.

    Attributes:
        tally: int64 (rates, C), the number of clients that keep each channel.
        counted: number of valid ballots. refused: number of others, by reason.

    Raises:
        ConfigError: no channels, no clients or no rates.
    """

    def __init__(self, channels: int, num_clients: int, rates: int = 1) -> None:
        super().__init__(num_clients)
        self.channels = require_channels(channels)
        if rates < 1:
            raise ConfigError(f"a majority vote needs a pruning rate, 1 or more; got {rates}")
        self.tally = torch.zeros(rates, channels, dtype=torch.int64)

    def add(self, client: int, ballot: Tensor) -> str | None:
        """Count a client's ballot, made by :func:`bits`; returns why it was refused, or None."""
        votes = plain_tensor(ballot, (torch.bool, *INTEGERS, *FLOATS), tuple(self.tally.shape))
        reason = self.admit(client, _flaw(votes))
        if reason is None and votes is not None:
            self.tally += votes.long()
        return reason

    @classmethod
    def from_tally(cls, tally: Tensor, ballots: int) -> MajorityVote:
        """A vote whose ballots were summed elsewhere, such as by secure aggregation.

        The server then sees no client's ballot, only how many of three keep each of four channels:

            >>> MajorityVote.from_tally(torch.tensor([[3, 0, 2, 1]]), ballots=3).scores().argsort().tolist()
            [1, 3, 2, 0]

        Args:
            tally: integers (rates, C). ballots: number of clients in the sum.

        Raises:
            DataError: the tally is impossible: a client voted more than once, or with something other than bits.
        """
        if not is_plain(tally, INTEGERS) or tally.ndim != 2:
            raise DataError(
                f"a tally must be integers (rates, channels); got {tally.dtype} {tuple(tally.shape)}"
            )
        if ballots < 1 or int(tally.min()) < 0 or int(tally.max()) > ballots:
            raise DataError(
                f"a tally of {ballots} ballots, 1 or more, holds numbers from 0 to {ballots}; got "
                f"{int(tally.min())} to {int(tally.max())}"
            )
        vote = cls(tally.shape[1], ballots, len(tally))
        vote.tally += tally.cpu()
        vote.counted, vote._voted = ballots, bytearray(b"\x01" * ballots)
        return vote

    def scores(self, rate: int = 0) -> Tensor:
        """The fraction of the ballots that keep each channel, float64 (C,); the lowest is pruned first.

        The other rates break ties: together they add less than one ballot.

        Args:
            rate: index of the pruning rate.

        Raises:
            DataError: there is no valid ballot.
        """
        if not self.counted:
            raise DataError(f"there is no valid ballot; refused: {dict(self.refused)}")
        own = self.tally[rate].double()
        others = self.tally.sum(0).double() - own
        return (own + others / (self.counted * len(self.tally))) / self.counted


def _flaw(votes: Tensor | None) -> str | None:
    if votes is None:
        return "bits of the wrong shape or kind"
    if not bool(((votes == 0) | (votes == 1)).all()):
        return "bits that are not 0 or 1"
    return None
