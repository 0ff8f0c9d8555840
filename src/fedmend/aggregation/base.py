"""The interface of aggregation rules: from the clients' deltas of one round to one delta of the global model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from torch import Tensor

from fedmend.errors import DataError

State: TypeAlias = dict[str, Tensor]
"""A rule's tensors from round to round, by name; empty before the first round."""


@dataclass(frozen=True, eq=False)
class Updates:
    """What the clients of one round sent.

    Attributes:
        deltas: float (clients, P), each client's change of the model's flat vector (see ``fedmend.parameters``).
        num_examples: (clients,), above 0: the number of training examples that each client reports.
        client_ids: the clients' numbers.
        parameters: bool (P,): True for parameters, False for float buffers such as a running variance.

    Raises:
        DataError: there is no client, the shapes don't match, or a client has no examples.
    """

    deltas: Tensor
    num_examples: Tensor
    client_ids: tuple[int, ...]
    parameters: Tensor

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
        if bool((self.num_examples <= 0).any()):
            raise DataError("updates need at least one example from each client")


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
