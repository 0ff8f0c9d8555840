"""FoolsGold: clients whose updates point the same way round after round are taken for one attacker's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedmend.aggregation.base import State, Updates
from fedmend.aggregation.columns import finite_clients, inner_products, weighted_sum
from fedmend.aggregation.coordinate_median import with_median_buffers
from fedmend.checked_settings import Count, Positive, settings

_LARGEST_WEIGHT = 0.99  # the paper's, before the logit


@settings
class FoolsGold:
    """Clients weigh less, the more similar their summed updates are to another client's.

    Fung, Yoon and Beschastnikh, "The Limitations of Federated Learning in Sybil Settings" (2020), Algorithm 1, without
    its optional weights of features. Deviations: the result is the weighted mean, where the paper adds up; buffers get
    their coordinate-wise median, and only parameters are compared. If all clients are alike, the model stays as it is.
    It doesn't limit an update's size, and a single attacker isn't like anyone. Non-finite deltas are left out, and
    numbers of examples are ignored, so a lie about them changes nothing.

    Its state is the sum of each client's updates so far: ``clients``, int64 (k,), and ``history``, (k, P) or (k,
    ``last_parameters``), with a row for every client that was ever seen.

    Attributes:
        confidence: the paper's kappa, which scales the logit.
        last_parameters: compare and remember only so many parameters, the last of the flat vector; None: all. To the
            paper the output layer's are the most indicative, and networks mostly define that layer last.
    """

    confidence: Positive = 1.0
    last_parameters: Count | None = None

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`.

        Raises:
            DataError: no delta is finite.
        """
        clients = finite_clients(updates)
        compared = updates.parameters.to(clients.device)
        deltas = updates.deltas
        if self.last_parameters is not None:
            columns = compared.nonzero().flatten()[-self.last_parameters :]
            deltas, compared = deltas[:, columns], compared[columns]
        numbers = [updates.client_ids[place] for place in clients.tolist()]
        after, rows = _remembered(deltas, clients, numbers, state)
        products = inner_products(after["history"], rows, compared)
        weights = foolsgold_weights(products, self.confidence)
        mean = weighted_sum(updates.deltas, clients, weights / weights.sum().clamp(min=1))
        return with_median_buffers(mean, updates, clients), after


def _remembered(
    deltas: Tensor, clients: Tensor, numbers: Sequence[int], state: State
) -> tuple[State, Tensor]:
    """The state with this round's deltas, and the rows of its history that belong to this round's clients.

    Args:
        deltas: (clients, columns), the columns that are compared.
        clients: places of the finite ones, int64 (n,). numbers: of these clients.
        state: before the round.
    """
    largest = torch.finfo(deltas.dtype).max
    known = {int(number): row for row, number in enumerate(state.get("clients", torch.empty(0)))}
    for number in numbers:
        known.setdefault(number, len(known))
    history = torch.zeros(len(known), deltas.shape[1], dtype=deltas.dtype, device=deltas.device)
    if "history" in state:
        history[: len(state["history"])] = state["history"].to(deltas)
    rows = torch.tensor([known[number] for number in numbers], device=deltas.device)
    for row, place in zip(rows.tolist(), clients.tolist(), strict=True):
        history[row] = (history[row] + deltas[place]).clamp_(-largest, largest)
    return {"clients": torch.tensor(list(known)), "history": history}, rows


def foolsgold_weights(products: Tensor, confidence: float = 1.0) -> Tensor:
    """Each client's weight, float64 (n,) in [0, 1], from the inner products of the histories, (n, n)."""
    norms = products.diagonal().sqrt().clamp(min=1e-150)
    similar = (products / norms[:, None] / norms[None, :]).fill_diagonal_(0)
    most = similar.max(dim=1).values
    pardoned = torch.where(most[None, :] > most[:, None], most[:, None] / most[None, :], 1.0)
    weights = (1 - (similar * pardoned).max(dim=1).values).clamp(0, 1)
    if float(weights.max()) < 1e-9:
        return torch.zeros_like(weights)
    weights = (weights / weights.max()).clamp(max=_LARGEST_WEIGHT)
    return (confidence * torch.logit(weights) + 0.5).clamp(0, 1)
