"""One round, in pieces: clients train copies of the global model, their updates are collected, and a delta is applied.

What lies between collecting and applying belongs to the caller: an aggregation rule, or a repair that tries groups of
updates one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn

from fedmend.aggregation import Aggregator, State, Updates
from fedmend.checked_settings import Positive, require
from fedmend.errors import ConfigError, ModelError
from fedmend.federation.clients import Client, ClientUpdate, Task
from fedmend.parameters import flatten, integer_maximum, parameter_mask, unflatten
from fedmend.pruning import held, set_to_zero
from fedmend.seeds import derive_seed

Buffers: TypeAlias = dict[str, Tensor]
"""A model's integer and boolean buffers, by name."""

Fitted: TypeAlias = tuple[ClientUpdate, Buffers]
"""What a client sends, and the integer buffers of the model that it trained."""


@dataclass(frozen=True, eq=False)
class RoundPlan:
    """What the clients of a round are asked to do.

    Attributes:
        number: the round's number.
        seed: the federation's seed; each client of each round gets one of its own from it.
        task: what an honest client does with the model and its images.
        mask: the pruning mask: parameters that stay zero while clients train, and are zero after the round.
    """

    number: int
    seed: int
    task: Task
    mask: Mapping[str, Tensor] = field(default_factory=dict)

    def seed_of(self, client: Client) -> int:
        """The seed of a client's training in this round."""
        return derive_seed(self.seed, "fit", self.number, client.client_id)


class Fit(Protocol):
    """Has clients train copies of a model, which is left as it was, and returns what each sends, in their order."""

    def __call__(self, model: nn.Module, clients: Sequence[Client], plan: RoundPlan) -> list[Fitted]:
        """Train."""
        ...


def fit_one_by_one(model: nn.Module, clients: Sequence[Client], plan: RoundPlan) -> list[Fitted]:
    """A :class:`Fit` in this process: one client after the other, each with all of torch's threads."""
    before, fitted = deepcopy(model.state_dict()), []
    for client in clients:
        fitted.append(fit_client(model, client, plan))
        model.load_state_dict(before)
    return fitted


def fit_client(model: nn.Module, client: Client, plan: RoundPlan) -> Fitted:
    """Let a client train ``model`` itself, with the mask's parameters held at zero."""
    with held(model, plan.mask):
        update = client.fit(model, plan.task, plan.seed_of(client))
    return update, {k: v.clone() for k, v in model.state_dict().items() if not v.is_floating_point()}


@dataclass(frozen=True, eq=False)
class Collected:
    """What the clients of a round sent: their updates, and each one's integer buffers, in the same order."""

    updates: Updates
    buffers: list[Buffers]

    def part(self, indices: Sequence[int]) -> Collected:
        """The same for some of the clients, by their places in the round."""
        every, chosen = self.updates, list(indices)
        updates = Updates(
            every.deltas[chosen],
            every.num_examples[chosen],
            tuple(every.client_ids[index] for index in chosen),
            every.parameters,
        )
        return Collected(updates, [self.buffers[index] for index in chosen])


def collect(
    model: nn.Module, clients: Sequence[Client], plan: RoundPlan, fit: Fit = fit_one_by_one
) -> Collected:
    """Let clients train copies of ``model``, which is left as it was.

    Raises:
        ModelError: a client's training diverged. DataError: there are no clients.
    """
    fitted = fit(model, clients, plan)
    sent = [update for update, _ in fitted]
    mask = parameter_mask(model)
    deltas = torch.stack([update.delta for update in sent]) if sent else torch.empty(0, len(mask))
    updates = Updates(
        deltas,
        torch.tensor([update.num_examples for update in sent], device=deltas.device),
        tuple(update.client_id for update in sent),
        mask.to(deltas.device),
    )
    return Collected(updates, [buffers for _, buffers in fitted])


def aggregate(aggregator: Aggregator, updates: Updates, state: State) -> tuple[Tensor, State]:
    """Apply a rule and check what it returns, since it may be a user's own.

    Raises:
        ConfigError: the delta hasn't the updates' shape, or the state isn't a dict of tensors.
    """
    delta, after = aggregator(updates, state)
    expected = tuple(updates.parameters.shape)
    if not isinstance(delta, Tensor) or tuple(delta.shape) != expected:
        shape = tuple(delta.shape) if isinstance(delta, Tensor) else type(delta).__name__
        raise ConfigError(f"an aggregation rule must return a delta of shape {expected}; got {shape}")
    if not isinstance(after, dict) or not all(isinstance(value, Tensor) for value in after.values()):
        raise ConfigError("an aggregation rule must return its state as a dict of names to tensors, or {}")
    return delta, after


def apply_delta(
    model: nn.Module, delta: Tensor, collected: Collected, plan: RoundPlan, server_lr: float = 1.0
) -> None:
    """Change ``model`` in place by an aggregated delta (P,), and set the mask's parameters to zero.

    BatchNorm's running statistics move like parameters (see ``fedmend.parameters``), but ``server_lr`` scales
    parameters only: a variance moved beyond the mean could become negative. Integer buffers take the maximum over the
    clients. Whatever a client sent, the mask's parameters end at zero.

    Raises:
        ModelError: the new weights aren't finite. The model is left as it was.
    """
    before = model.state_dict()
    parameters = collected.updates.parameters.to(delta.device)
    after = flatten(before) + delta.where(~parameters, server_lr * delta)
    if not bool(after.isfinite().all()):
        raise ModelError(
            f"round {plan.number} ended in weights that are NaN or infinite; try a smaller [training] lr, "
            "[federation] server_lr or [[attack.update]] factor"
        )
    model.load_state_dict(unflatten(after, before) | integer_maximum(collected.buffers))
    set_to_zero(model, plan.mask)


@dataclass(frozen=True, eq=False)
class Server:
    """How the server turns updates into the next model.

    Attributes:
        aggregator: the aggregation rule.
        learning_rate: the federated-pruning paper's eta, by which the aggregated delta of parameters is multiplied.
        state: what the rule remembers from the rounds so far.

    Raises:
        ConfigError: the rule can't be called, or the learning rate isn't a positive number.
    """

    aggregator: Aggregator
    learning_rate: float = 1.0
    state: State = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not callable(self.aggregator):
            raise ConfigError(
                f"a server's aggregation rule must be callable as rule(updates, state); got {self.aggregator!r}"
            )
        require(self.learning_rate, Positive, "a server's learning rate")


def run_round(
    model: nn.Module,
    clients: Sequence[Client],
    plan: RoundPlan,
    server: Server,
    fit: Fit = fit_one_by_one,
) -> tuple[nn.Module, Server]:
    """One round: collect, aggregate, and make the candidate for the next global model.

    Returns:
        The candidate, a new model (``model`` is left as it was), and the server with its state for the next round.

    Raises:
        ModelError: the candidate's weights aren't finite, or a client's training diverged. DataError: there are no
            clients, or no update can be used. ConfigError: the rule returned something else than a delta and a state.
    """
    collected = collect(model, clients, plan, fit)
    delta, state = aggregate(server.aggregator, collected.updates, server.state)
    candidate = deepcopy(model)
    apply_delta(candidate, delta, collected, plan, server.learning_rate)
    return candidate, replace(server, state=state)
