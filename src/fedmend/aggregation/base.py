"""What every aggregation rule can do: the clients' deltas of one round to one delta of the global model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from torch import Tensor

from fedmend.errors import DataError

State: TypeAlias = dict[str, Tensor]
"""What a rule carries from one round to the next, by name; empty before the first round."""


@dataclass(frozen=True, eq=False)
class Updates:
    """What the clients of one round sent.

    Attributes:
        deltas: float (clients, P), each client's change of the model's flat vector (see ``fedmend.parameters``).
        num_examples: (clients,), above 0: how many examples each client says that it trained on.
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
            raise DataError(f"updates need one delta a client; got {shapes[0][0]} for {clients} clients")
        if bool((self.num_examples <= 0).any()):
            raise DataError("updates need at least one example from each client")


class Aggregator(Protocol):
    """An aggregation rule. It is pure: what it remembers from round to round is an argument and comes back."""

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """Aggregate one round.

        Args:
            updates: what the clients sent; left as it is.
            state: what the rule returned in the round before, {} in the first; left as it is. It is saved with the
                round's checkpoint, so a resumed run goes on with the same.

        Returns:
            The delta of the global model, float (P,), and the state for the next round.
        """
        ...
