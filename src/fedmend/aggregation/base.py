"""The interface of aggregation rules: from the clients' deltas of one round to one delta of the global model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeAlias

from pydantic import Field
from torch import Tensor

from fedmend.errors import DataError

State: TypeAlias = dict[str, Tensor]
"""A rule's tensors from round to round, by name; empty before the first round."""

MOST_EXAMPLES = 10**9
"""A client that claims more training examples than this is refused."""


Minority = Annotated[float, Field(ge=0, lt=0.5, strict=True)]
"""A fraction of the clients below one half."""


def byzantine_count(fraction: float, clients: int) -> int:
    """How many of the clients a fraction is, rounded up."""
    return math.ceil(fraction * clients - 1e-9)


@dataclass(frozen=True, eq=False)
class Updates:
    """What the clients of one round sent.

    Attributes:
        deltas: float (clients, P), each client's change of the model's flat vector (see ``fedmend.parameters``).
        num_examples: (clients,), from 1 to 10^9: the number of training examples that each client reports.
        client_ids: the clients' numbers.
        parameters: bool (P,): True for parameters, False for float buffers such as a running variance.
        server_delta: float (P,), what the server's own training on its root images changes, for a rule that compares
            the clients with it; None where there are none.

    Raises:
        DataError: there is no client, the shapes don't match, the deltas are not floats, or a client's number of
            examples is out of range.
    """

    deltas: Tensor
    num_examples: Tensor
    client_ids: tuple[int, ...]
    parameters: Tensor
    server_delta: Tensor | None = None

    def __post_init__(self) -> None:
        shapes = (tuple(self.deltas.shape), tuple(self.num_examples.shape), tuple(self.parameters.shape))
        clients = len(self.client_ids)
        if self.deltas.ndim != 2 or clients == 0 or shapes[1:] != ((clients,), shapes[0][1:]):
            raise DataError(
                "updates need deltas (clients, P), num_examples (clients,) and parameters (P,), of one client or more; "
                f"got {', '.join(map(str, shapes))} for {clients} clients"
            )
        if shapes[0][0] != clients:
            raise DataError(f"updates need one delta per client; got {shapes[0][0]} for {clients} clients")
        if not self.deltas.is_floating_point():
            raise DataError(f"updates need deltas of floats; got {self.deltas.dtype}")
        if not bool(((self.num_examples > 0) & (self.num_examples <= MOST_EXAMPLES)).all()):
            raise DataError(
                f"updates need at least one example from each client and at most {MOST_EXAMPLES:,}; got "
                f"{self.num_examples.tolist()}"
            )
        if self.server_delta is not None and self.server_delta.shape != self.parameters.shape:
            raise DataError(
                f"the server's own delta must be as long as the clients', {shapes[2]}; got "
                f"{tuple(self.server_delta.shape)}"
            )


class Aggregator(Protocol):
    """An aggregation rule. It is pure: its state is an argument and a result."""

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """Aggregate one round.

        Args:
            updates: what the clients sent; not changed.
            state: the rule's state after the previous round, {} in the first; not changed. It is saved with the round's
                checkpoint, so a resumed run continues with it.

        Returns:
            The delta of the global model, float (P,), and the state for the next round.
        """
        ...


class Preparation(Protocol):
    """What can be done to the updates before a rule: clip them, or leave clients out (see :class:`.Chain`)."""

    def prepare(self, updates: Updates) -> Updates:
        """The updates that the next step gets; those given are not changed.

        Raises:
            DataError: no delta is finite.
        """
        ...
