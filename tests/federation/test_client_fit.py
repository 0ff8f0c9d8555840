"""What hostile and broken clients may do in a round: they are left out, whatever they do."""

from __future__ import annotations

import time
from copy import deepcopy
from typing import Any

import pytest
import torch
from tiny_data import image_set, settings
from torch import Tensor, nn

from fedmend.federation import ClientUpdate, Refused, RoundPlan, collect
from fedmend.federation.client_fit import DIVERGED, NOT_FINITE, fit_one_by_one
from fedmend.federation.simulator import initial_model
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten

TRAINING = LocalTraining(epochs=1)


class Sends:
    """A client that sends what it is told to, or does it."""

    def __init__(self, client_id: Any, sends: Any) -> None:
        self.client_id, self.sends = client_id, sends

    def fit(self, model: nn.Module, task: object, seed: int) -> Any:
        return self.sends(model) if callable(self.sends) else self.sends


class Unnumbered(Sends):
    @property  # type: ignore[override]
    def client_id(self) -> int:
        raise SystemExit(0)

    @client_id.setter
    def client_id(self, value: object) -> None:
        pass


def net(name: str = "conv") -> nn.Module:
    return initial_model(settings(model={"architecture": f"tiny_nets:{name}"}), image_set(8))


SIZE = len(flatten(net().state_dict()))
VARIANCES = slice(36 + 4 + 4 + 4 + 4, 36 + 4 + 4 + 4 + 4 + 4)


def update(delta: Any = None, examples: Any = 5, number: Any = 1) -> ClientUpdate:
    return ClientUpdate(number, examples, torch.zeros(SIZE) if delta is None else delta)


def lowered(change: float) -> Tensor:
    delta = torch.zeros(SIZE)
    delta[VARIANCES] = change
    return delta


def raising(error: BaseException) -> Any:
    def fit(model: nn.Module) -> Any:
        raise error

    return fit


def hanging(model: nn.Module) -> Any:
    while True:
        time.sleep(0.01)


def counting_oddly(model: nn.Module) -> ClientUpdate:
    model[1].num_batches_tracked = torch.tensor(1.5)  # type: ignore[operator]
    return update()


class Hostile:
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(0)

    def __len__(self) -> int:
        raise SystemExit(0)


class Subclassed(ClientUpdate):
    pass


LENGTH = "its update isn't a vector of"
EXAMPLES = "its number of examples isn't a whole number from 1 to 1,000,000,000"
NOTHING = "it sent no update"


@pytest.mark.parametrize(
    ("sends", "reason"),
    [
        (raising(ValueError("no")), "the client failed: ValueError: no"),
        (raising(SystemExit(0)), "the client failed: SystemExit: 0"),
        (raising(KeyboardInterrupt()), "the client failed: KeyboardInterrupt"),
        (hanging, "no reply in time"),
        (None, NOTHING),
        (lambda _: Hostile(), NOTHING),
        (Subclassed(1, 5, torch.zeros(SIZE)), NOTHING),
        (object.__new__(ClientUpdate), NOTHING),
        (update(number=2), "another client's number"),
        (lambda _: update(number=Hostile()), "another client's number"),
        (update(examples=0), EXAMPLES),
        (update(examples=2**62), EXAMPLES),
        (update(examples=float("nan")), EXAMPLES),
        (update(examples=True), EXAMPLES),
        (lambda _: update(examples=Hostile()), EXAMPLES),
        (update(torch.zeros(SIZE - 1)), LENGTH),
        (update(torch.zeros(SIZE, dtype=torch.int64)), LENGTH),
        (update(torch.nn.Parameter(torch.zeros(SIZE))), LENGTH),
        (lambda _: update(Hostile()), LENGTH),
        (update(torch.zeros(SIZE).index_fill_(0, torch.tensor([3]), torch.nan)), NOT_FINITE),
        (update(torch.full((SIZE,), 1e300, dtype=torch.float64)), NOT_FINITE),
        (update(lowered(-1.1)), "its update makes a running variance negative"),
        (counting_oddly, "its model's integer buffers are of another kind"),
    ],
)
def test_a_client_that_can_not_be_used_is_left_out_and_recorded(sends: Any, reason: str) -> None:
    clients: list[Any] = [Sends(0, update(number=0)), Sends(1, sends)]
    plan = RoundPlan(1, 0, TRAINING, timeout=0.5 if sends is hanging else 20.0)
    collected = collect(net(), clients, plan)
    assert collected.updates.client_ids == (0,)
    (refused,) = collected.refused
    assert refused.client == 1
    assert reason in refused.reason


def test_a_client_whose_number_cannot_be_read_is_left_out() -> None:
    clients: list[Any] = [Unnumbered(0, update()), Sends("1", update()), Sends(1, update())]
    collected = collect(net(), clients, RoundPlan(1, 0, TRAINING, timeout=20.0))
    assert collected.updates.client_ids == (1,)
    assert [str(each).split(":")[0] for each in collected.refused] == ["client without a number"] * 2


def test_a_variance_may_fall_to_nothing_but_for_rounding() -> None:
    clients: list[Any] = [Sends(1, update(lowered(-1 - 1e-7)))]
    assert collect(net(), clients, RoundPlan(1, 0, TRAINING)).refused == ()


class Task:
    """As a repair's, with a model of the server's."""

    training = TRAINING

    def __init__(self, teacher: nn.Module) -> None:
        self.teacher = teacher


class Vandal(Sends):
    """Spoils all it is shown, and hooks it."""

    def fit(self, model: nn.Module, task: Any, seed: int) -> Any:
        for each in (model, task.teacher):
            each.register_forward_hook(lambda *_: torch.zeros(1))
            with torch.no_grad():
                for parameter in each.parameters():
                    parameter.zero_()
        return self.sends


@pytest.mark.parametrize("timeout", [None, 20.0])
def test_a_client_has_no_hold_of_the_servers_models(timeout: float | None) -> None:
    model, teacher = net(), net()
    before = [deepcopy(each.state_dict()) for each in (model, teacher)]
    task: Any = Task(teacher)
    fit_one_by_one(model, [Vandal(1, update())], RoundPlan(1, 0, task, timeout=timeout))  # type: ignore[list-item]
    for each, state in zip((model, teacher), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in each.state_dict().items())
        assert not each._forward_hooks


def test_in_a_simulation_an_error_is_raised_but_for_divergence() -> None:
    """An error there is one of the user's own code, to be seen."""
    broken: list[Any] = [Sends(1, raising(ValueError("no")))]
    with pytest.raises(ValueError, match="no"):
        collect(net(), broken, RoundPlan(1, 0, TRAINING))


def test_divergence_is_told_in_the_same_words_with_and_without_a_timeout() -> None:
    images = image_set(16)
    from fedmend.federation import Client

    fast = LocalTraining(epochs=3, optimizer="sgd", lr=1e38)
    for timeout in (None, 20.0):
        plan = RoundPlan(1, 0, fast, timeout=timeout)
        refused = fit_one_by_one(net("linear"), [Client(4, images.images, images.labels)], plan)
        assert refused == [Refused(4, DIVERGED)]


def test_two_clients_that_claim_absurd_numbers_do_not_turn_the_update() -> None:
    claims = (100, 2**62, 2**62)
    clients: list[Any] = [
        Sends(number, update(torch.full((SIZE,), 0.5), claim, number)) for number, claim in enumerate(claims)
    ]
    assert collect(net(), clients, RoundPlan(1, 0, TRAINING)).updates.client_ids == (0,)
