"""Keeping count of untrusted answers: who answered, and whose answers were refused why."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from fedmend.errors import ConfigError


class Ballots:
    """One answer a client, good or bad; memory is one byte a client.

    Args:
        num_clients: clients are numbered from 0 to one below this.

    Attributes:
        counted: answers that count. refused: of the others, how many for each reason.

    Raises:
        ConfigError: no clients.
    """

    def __init__(self, num_clients: int) -> None:
        if num_clients < 1:
            raise ConfigError(f"a vote needs clients, 1 or more; got {num_clients}")
        self.counted = 0
        self.refused: Counter[str] = Counter()
        self._answered = bytearray(num_clients)

    @property
    def missing(self) -> int:
        """Clients of whom no answer came, good or bad."""
        return self._answered.count(0)

    def admit(self, client: int, reason: str | None) -> str | None:
        """Note an answer and why it is refused, if it is; returns that reason or another that weighs more, or None.

        An answer that came too late is noted in the same way, with a reason.
        """
        if type(client) is not int or not 0 <= client < len(self._answered):
            reason = "not a client of this vote"
        else:
            reason = "a second answer of one client" if self._answered[client] else reason
            self._answered[client] = 1
        if reason is None:
            self.counted += 1
        else:
            self.refused[reason] += 1
        return reason


INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def is_plain(answer: object, dtypes: tuple[torch.dtype, ...]) -> bool:
    """Whether an answer is an ordinary dense tensor with values, of one of these types."""
    return (
        isinstance(answer, Tensor)
        and answer.layout == torch.strided
        and not answer.is_meta
        and not answer.is_quantized
        and answer.dtype in dtypes
    )
