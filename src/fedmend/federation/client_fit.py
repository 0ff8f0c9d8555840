"""A client's part in a round: it trains a copy of the model, and what it sends is checked before anything uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from torch import Tensor, nn

from fedmend.aggregation.base import MOST_EXAMPLES
from fedmend.errors import DivergedError
from fedmend.federation.clients import Client, ClientUpdate, Task
from fedmend.parameters import flatten, variance_mask
from fedmend.pruning import held
from fedmend.seeds import derive_seed, seeded
from fedmend.untrusted import FAILED, FLOATS, attempt, plain_tensor

Buffers: TypeAlias = dict[str, Tensor]
"""A model's integer and boolean buffers, by name."""

Fitted: TypeAlias = tuple[ClientUpdate, Buffers]
"""What a client sends, and the integer buffers of the model that it trained."""

DIVERGED = "its training diverged"
NOT_FINITE = "its update holds NaN or infinite values"
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Refused:
    """A client whose update doesn't count.

    Attributes:
        client: its number; None if it couldn't be asked.
        reason: why, in a few words.
    """

    client: int | None
    reason: str

    def __str__(self) -> str:
        return f"client {'without a number' if self.client is None else self.client}: {self.reason}"


@dataclass(frozen=True, eq=False)
class RoundPlan:
    """What the clients of a round are asked to do.

    Attributes:
        number: the round's number.
        seed: the federation's seed; each client of each round gets one of its own from it.
        task: what an honest client does with the model and its images.
        mask: the pruning mask: parameters that stay zero while clients train, and are zero after the round.
        timeout: seconds to wait for each client; one that takes longer or fails is left out. None: the clients are a
            simulation's, so that an error of theirs, other than a :class:`~fedmend.errors.DivergedError`, is raised.
    """

    number: int
    seed: int
    task: Task
    mask: Mapping[str, Tensor] = field(default_factory=dict)
    timeout: float | None = None

    def seed_of(self, client_id: int) -> int:
        """The seed of a client's training in this round."""
        return derive_seed(self.seed, "fit", self.number, client_id)


class Fit(Protocol):
    """Has clients train copies of a model, which is left as it was.

    Returns what each sends, in their order, or why that is refused.
    """

    def __call__(
        self, model: nn.Module, clients: Sequence[Client], plan: RoundPlan
    ) -> list[Fitted | Refused]:
        """Train."""
        ...


def fit_one_by_one(model: nn.Module, clients: Sequence[Client], plan: RoundPlan) -> list[Fitted | Refused]:
    """A :class:`Fit` in this process: one client after the other, each with all of torch's threads."""
    return [fit_client(deepcopy(model), client, plan) for client in clients]


def fit_client(model: nn.Module, client: Client, plan: RoundPlan) -> Fitted | Refused:
    """Let a client train ``model`` itself, with the mask's parameters held at zero.

    An update is refused if it isn't a :class:`ClientUpdate` with a float tensor as long as the model's flat vector, if
    it is NaN or infinite, makes a running variance negative, or claims no examples or more than 10^9.

    Args:
        model: a copy for this client alone. It may be changed in any way, and a client that hangs keeps it.
        client: not trusted.
        plan: of the round. The client gets a copy of its task.
    """
    wanted, task, numbers = _Wanted(model), deepcopy(plan.task), []

    def train() -> tuple[object, dict[str, object]] | str:
        number = client.client_id
        if type(number) is not int:
            raise TypeError("a client's number must be an int")
        numbers.append(number)
        seed = plan.seed_of(number)
        try:
            with seeded(seed, wanted.before.device), held(model, plan.mask):
                update = client.fit(model, task, seed)
        except DivergedError:
            return DIVERGED
        state = model.state_dict()
        return update, {name: state[name] for name in wanted.integers}

    sent: Any
    sent, failure = (train(), None) if plan.timeout is None else attempt(train, plan.timeout)
    number = numbers[0] if numbers else None
    if number is None or failure is not None:
        return Refused(number, failure or FAILED)
    checked = sent if isinstance(sent, str) else wanted.check(number, *sent)
    return Refused(number, checked) if isinstance(checked, str) else checked


class _Wanted:
    """What a client must send."""

    def __init__(self, model: nn.Module) -> None:
        state = model.state_dict()
        self.before = flatten(state)
        self.variances = variance_mask(state).to(self.before.device)
        self.integers = {
            name: (value.dtype, tuple(value.shape))
            for name, value in state.items()
            if not value.is_floating_point()
        }

    def check(self, number: int, sent: object, buffers: Mapping[str, object]) -> Fitted | str:
        """A copy of what a client sent, or why it is refused."""
        if type(sent) is not ClientUpdate:
            return "it sent no update"
        try:
            claimed, examples, change = sent.client_id, sent.num_examples, sent.delta
        except AttributeError:  # an object made without its constructor
            return "it sent no update"
        if type(claimed) is not int or claimed != number:
            return "its update bears another client's number"
        if type(examples) is not int or not 1 <= examples <= MOST_EXAMPLES:
            return f"its number of examples isn't a whole number from 1 to {MOST_EXAMPLES:,}"
        delta = plain_tensor(change, FLOATS, tuple(self.before.shape))
        if delta is None:
            return f"its update isn't a vector of {len(self.before)} floats"
        delta = delta.to(self.before)
        if not bool(delta.isfinite().all()):
            return NOT_FINITE
        lowest = -_ROUNDING * self.before.abs().clamp(min=1)
        if bool((self.variances & (self.before + delta < lowest)).any()):
            return "its update makes a running variance negative"
        kept = {
            name: plain_tensor(buffers[name], (dtype,), shape)
            for name, (dtype, shape) in self.integers.items()
        }
        whole = {name: value for name, value in kept.items() if value is not None}
        if len(whole) < len(kept):
            return "its model's integer buffers are of another kind"
        return ClientUpdate(number, examples, delta), whole
