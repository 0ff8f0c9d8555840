"""The interface of what the attackers of a round make of their updates together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, eq=False)
class CollusionContext:
    """What the attackers of a round know.

    Attributes:
        known: the updates that they saw, float (k, P), k at least 1: those of the honest clients, or only what they
            trained themselves.
        clients: number of clients in the round, theirs included.
        parameters: bool (P,), True for parameters, False for float buffers.
        global_vector: the global model before the round, (P,).
        seed: of all randomness.
    """

    known: Tensor
    clients: int
    parameters: Tensor
    global_vector: Tensor
    seed: int


class Collusion(Protocol):
    """What the attackers of a round send.

    Attributes:
        untargeted: they train honestly and spoil the model, without a backdoor.
        omniscient: they see the honest clients' updates; otherwise only their own.
    """

    @property
    def untargeted(self) -> bool:
        """See above."""
        ...

    @property
    def omniscient(self) -> bool:
        """See above."""
        ...

    def __call__(self, own: Tensor, context: CollusionContext) -> Tensor:
        """From what the attackers trained to what they send.

        Args:
            own: float (attackers, P); not changed.
            context: what they know.

        Returns:
            New updates, (attackers, P). Buffers are ignored: those of ``own`` are sent.
        """
        ...
