"""Counts untrusted ballots: valid, refused (by reason) and missing ones."""

from __future__ import annotations

from collections import Counter

from torch import Tensor

from fedmend.errors import ConfigError, DataError


class Ballots:
    """At most one ballot per client, valid or not; needs one byte of memory per client.

    Args:
        num_clients: number of clients, numbered from 0.

    Attributes:
        counted: number of valid ballots. refused: number of others, by reason.

    Raises:
        ConfigError: no clients.
    """

    def __init__(self, num_clients: int) -> None:
        if num_clients < 1:
            raise ConfigError(f"a vote needs clients, 1 or more; got {num_clients}")
        self.counted = 0
        self.refused: Counter[str] = Counter()
        self._voted = bytearray(num_clients)

    @property
    def missing(self) -> int:
        """Clients that sent no ballot, valid or not."""
        return self._voted.count(0)

    def admit(self, client: int, flaw: str | None) -> str | None:
        """Register a ballot and its flaw, if any; a missing or late ballot is a flaw, too.

        Returns:
            Why the ballot is refused: the flaw, or a more serious reason; None if it is valid.
        """
        reason = flaw
        if type(client) is not int or not 0 <= client < len(self._voted):
            reason = "not a client of this vote"
        else:
            reason = "a second ballot of one client" if self._voted[client] else reason
            self._voted[client] = 1
        if reason is None:
            self.counted += 1
        else:
            self.refused[reason] += 1
        return reason


def require_channels(channels: int) -> int:
    """A vote's number of channels.

    Raises:
        ConfigError: it is below 1.
    """
    if channels < 1:
        raise ConfigError(f"a vote needs channels, 1 or more; got {channels}")
    return channels


def require_activations(activations: Tensor) -> Tensor:
    """A client's mean activations, (C,).

    Raises:
        DataError: they are not a vector of finite numbers.
    """
    if activations.ndim != 1 or len(activations) == 0 or not bool(activations.isfinite().all()):
        raise DataError(
            f"mean activations must be a vector of finite numbers, one per channel; got {tuple(activations.shape)}, "
            f"{int((~activations.isfinite()).sum())} of them not finite"
        )
    return activations
