"""A federation whose server sees only sums over groups of clients: a model of secure aggregation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fedmend.aggregation.pairwise_masking import dequantised, masked, quantised, total
from fedmend.checked_settings import Positive, require
from fedmend.errors import DataError
from fedmend.federation.client_fit import Refused, RoundPlan, fit_client
from fedmend.federation.clients import Client
from fedmend.parameters import flatten, unflatten, variance_mask
from fedmend.seeds import derive_seed


@dataclass(eq=False)
class SecureSums:
    """What a server can ask: the sum of something over two or more clients.

    What a client computes leaves it masked (see ``fedmend.aggregation.pairwise_masking``); the server's part gets
    the masked vectors and adds them. A sum is lost if a client of its group drops out, and no client's vector can be
    checked: one that lies changes the sum as it likes.

    Attributes:
        clients: numbered from 0 in their order.
        seed: of the clients' masks; the server doesn't use it.
        clip: floats are cut off at this size before they are summed.

    Raises:
        ConfigError: ``clip`` isn't positive.
    """

    clients: Sequence[Client]
    seed: int
    clip: float = 8.0
    _asked: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        require(self.clip, Positive, "a secure sum's clip")

    @property
    def everyone(self) -> list[int]:
        """All clients' numbers."""
        return list(range(len(self.clients)))

    def of_integers(self, group: Sequence[int], question: Callable[[Client], Tensor]) -> Tensor:
        """The sum of integers in [0, 2^24] of any shape, as int64.

        Args:
            group: numbers of the clients, two or more.
            question: what a client computes.

        Raises:
            ConfigError: fewer than two clients, or one twice. DataError: a client failed.
        """
        self._asked += 1
        seed = derive_seed(self.seed, "sum", self._asked)
        sent = {}
        for number in group:
            try:
                sent[number] = masked(question(self.clients[number]).cpu().long(), number, group, seed)
            except Exception as error:
                raise DataError(
                    f"client {number} failed, and its masks hide the sum of the others; ask the group again without "
                    f"it ({error})"
                ) from error
        return total(sent, group)

    def of_floats(self, group: Sequence[int], question: Callable[[Client], Tensor]) -> Tensor:
        """The sum of float vectors, float64; see :meth:`of_integers`."""
        summed = self.of_integers(group, lambda client: quantised(question(client), self.clip))
        return dequantised(summed, len(group), self.clip)

    def mean_update(self, model: nn.Module, plan: RoundPlan, group: Sequence[int]) -> Tensor:
        """The mean of a group's updates in a round, float64 (P,), whatever the clients' numbers of images.

        Args:
            model: the round's global model; left as found.
            plan: of the round.
            group: numbers of the clients, two or more.
        """

        def delta(client: Client) -> Tensor:
            fitted = fit_client(deepcopy(model), client, plan)
            if isinstance(fitted, Refused):
                raise DataError(fitted.reason)
            return fitted[0].delta

        return self.of_floats(group, delta) / len(group)


def moved(model: nn.Module, delta: Tensor) -> nn.Module:
    """A new model with a mean update added; a negative variance becomes 0, and integer buffers stay as they are.

    Args:
        model: left as found. delta: (P,).
    """
    before = model.state_dict()
    after = flatten(before).double() + delta.to(flatten(before).device)
    after = torch.where(variance_mask(before).to(after.device), after.clamp(min=0), after)
    candidate = deepcopy(model)
    candidate.load_state_dict(unflatten(after.to(flatten(before).dtype), before))
    return candidate
