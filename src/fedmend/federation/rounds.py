"""One round in parts: clients train copies of the global model, their updates are collected, and a delta is applied.

The caller decides what happens between collecting and applying: an aggregation rule, or a repair that tries groups of
updates one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from fedmend.aggregation import Aggregator, State, Updates
from fedmend.checked_settings import Positive, require
from fedmend.errors import ConfigError, DataError, DivergedError, FedmendError
from fedmend.federation.client_fit import (
    DIVERGED,
    NOT_FINITE,
    Buffers,
    Fit,
    Refused,
    RoundPlan,
    fit_one_by_one,
)
from fedmend.federation.clients import Client
from fedmend.federation.colluding import after_collusion
from fedmend.federation.root_training import with_server_delta
from fedmend.parameters import flatten, integer_median, parameter_mask, unflatten, variance_mask
from fedmend.pruning import set_to_zero
from fedmend.user_code import failures_named, is_users, name_of, tensor_in_words

_SHOWN = 4


@dataclass(frozen=True, eq=False)
class Collected:
    """What the clients of a round sent.

    Attributes:
        updates: those that count.
        buffers: each one's integer buffers, in the same order.
        refused: the clients whose updates don't count.
    """

    updates: Updates
    buffers: list[Buffers]
    refused: tuple[Refused, ...] = ()

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
    """Let clients train copies of ``model``, which is left as it was, and sort out what can't be used.

    Raises:
        DivergedError: the training of every client diverged. DataError: there are no clients, or no client's update can
            be used for other reasons too.
    """
    fitted = after_collusion(fit(model, clients, plan), clients, model, plan)
    taken = [each for each in fitted if not isinstance(each, Refused)]
    refused = tuple(each for each in fitted if isinstance(each, Refused))
    if refused and not taken:
        raise _nothing_left(plan, refused)
    mask = parameter_mask(model)
    deltas = torch.stack([update.delta for update, _ in taken]) if taken else torch.empty(0, len(mask))
    updates = Updates(
        deltas,
        torch.tensor([update.num_examples for update, _ in taken], device=deltas.device),
        tuple(update.client_id for update, _ in taken),
        mask.to(deltas.device),
    )
    return Collected(updates, [buffers for _, buffers in taken], refused)


def _nothing_left(plan: RoundPlan, refused: tuple[Refused, ...]) -> FedmendError:
    if all(each.reason in (DIVERGED, NOT_FINITE) for each in refused):
        return DivergedError(
            f"round {plan.number}: the training of every client diverged to NaN or infinite values; try a smaller "
            "[training] lr, [federation] server_lr or [[attack.update]] factor"
        )
    shown = "; ".join(str(each) for each in refused[:_SHOWN])
    more = f"; and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
    return DataError(f"round {plan.number}: no client's update can be used: {shown}{more}")


def aggregate(aggregator: Aggregator, updates: Updates, state: State) -> tuple[Tensor, State]:
    """Apply a rule and check what it returns, since it may be a user's own.

    Raises:
        ConfigError: the rule failed, or returned something else than a float delta of the updates' shape and a dict of
            tensors, or a delta that isn't finite though the updates are.
    """
    with failures_named("aggregation rule", aggregator):
        result = aggregator(updates, state)
    must = f"the aggregation rule {name_of(aggregator)} must return"
    if not isinstance(result, tuple) or len(result) != 2:
        came = f"{len(result)} values" if isinstance(result, tuple) else tensor_in_words(result)
        raise ConfigError(f"{must} a pair, the delta and its state (or {{}}); got {came}")
    delta, after = result
    like = isinstance(delta, Tensor) and delta.shape == updates.parameters.shape and delta.is_floating_point()
    if not like or delta.device != updates.deltas.device:
        expected = tensor_in_words(updates.deltas[0])
        raise ConfigError(f"{must} a delta of floats, {expected}; got {tensor_in_words(delta)}")
    if not isinstance(after, dict) or not all(isinstance(value, Tensor) for value in after.values()):
        raise ConfigError(
            f"{must} its state as a dict of names to tensors, or {{}}; got {_state_in_words(after)}"
        )
    if is_users(aggregator) and not bool(delta.isfinite().all()) and bool(updates.deltas.isfinite().all()):
        raise ConfigError(
            f"{must} a finite delta; got NaN or infinite values from updates that are all finite"
        )
    return delta, after


def _state_in_words(state: object) -> str:
    if not isinstance(state, dict):
        return tensor_in_words(state)
    name, value = next(item for item in state.items() if not isinstance(item[1], Tensor))
    return f"{name!r}: {value!r}"


def apply_delta(
    model: nn.Module, delta: Tensor, collected: Collected, plan: RoundPlan, server_lr: float = 1.0
) -> None:
    """Change ``model`` in place by an aggregated delta (P,), and set the mask's parameters to zero.

    BatchNorm's running statistics are aggregated like parameters (see ``fedmend.parameters``), but ``server_lr``
    scales only parameters, since a scaled-up step could make a variance negative; one that a rule makes negative
    becomes 0. Integer buffers take the median over the clients. The mask's parameters end at zero, whatever the
    clients sent.

    Raises:
        DivergedError: the new weights aren't finite. The model is left as it was.
    """
    before = model.state_dict()
    parameters = collected.updates.parameters.to(delta.device)
    after = flatten(before) + delta.where(~parameters, server_lr * delta)
    after = after.where(~variance_mask(before).to(after.device), after.clamp(min=0))
    if not bool(after.isfinite().all()):
        raise DivergedError(
            f"round {plan.number} ended in weights that are NaN or infinite; try a smaller [training] lr, "
            "[federation] server_lr or [[attack.update]] factor; your own aggregation rule or update step, if any, may "
            "be the cause, too"
        )
    model.load_state_dict(unflatten(after, before) | integer_median(collected.buffers))
    set_to_zero(model, plan.mask)


@dataclass(frozen=True, eq=False)
class Server:
    """How the server turns updates into the next model.

    Attributes:
        aggregator: the aggregation rule.
        learning_rate: the federated-pruning paper's eta, by which the aggregated delta of parameters is multiplied.
        state: the rule's state after the rounds so far.
        root: the server's own images, for a rule that compares clients with its update (see :func:`.root_client`).

    Raises:
        ConfigError: the rule can't be called, or the learning rate isn't a positive number.
    """

    aggregator: Aggregator
    learning_rate: float = 1.0
    state: State = field(default_factory=dict)
    root: Client | None = None

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
    """One round: :func:`collect`, then :func:`next_model`."""
    return next_model(model, collect(model, clients, plan, fit), plan, server)


def next_model(
    model: nn.Module, collected: Collected, plan: RoundPlan, server: Server
) -> tuple[nn.Module, Server]:
    """Aggregate what the clients sent, and make the candidate for the next global model.

    Returns:
        The candidate, a new model (``model`` is left as it was), and the server with its state for the next round.

    Raises:
        ModelError: the candidate's weights or the server's own update aren't finite. DataError: no update can be used.
        ConfigError: the rule returned something other than a delta and a state.
    """
    updates = with_server_delta(collected.updates, model, plan, server.root)
    delta, state = aggregate(server.aggregator, updates, server.state)
    candidate = deepcopy(model)
    apply_delta(candidate, delta, collected, plan, server.learning_rate)
    return candidate, replace(server, state=state)
