from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from cornered import CORNER, TARGET, images, net, state
from tiny_nets import conv
from torch import Tensor, nn

from fedmend.data import ImageSet
from fedmend.errors import DivergedError
from fedmend.federation import Client, ClientUpdate, RoundPlan, collect
from fedmend.local_training import LocalTraining
from fedmend.pruning import channel_mask, locate
from fedmend.repairs.group_selection import best_groups, random_groups, trimmed

TRAINING = LocalTraining(2, 8, "sgd", 0.05)


def after(
    model: nn.Module,
    clients: Sequence[Any],
    validation: ImageSet | None,
    number: int = 1,
    mask: Mapping[str, Tensor] = {},
    training: LocalTraining = TRAINING,
) -> Any:
    """The model after a round."""
    plan = RoundPlan(number, 5, training, mask)
    collected = collect(model, clients, plan)
    if validation is None:
        return trimmed(model, collected, plan)
    return best_groups(model, collected, plan, (validation.images, validation.labels), CORNER)


@dataclass
class Sending:
    """A client that sends this change and leaves the model full of noughts."""

    client_id: int
    delta: Tensor

    def fit(self, model: nn.Module, task: object, seed: int) -> ClientUpdate:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        return ClientUpdate(self.client_id, 1, self.delta)


def marked(count: int) -> list[Sending]:
    """Each moves another weight, one that does nothing here: those of class 3 for black pixels next to the corner."""
    clients = []
    for number in range(count):
        delta = torch.zeros(len(state(net())))
        delta[3 * 128 + 16 + number] = 1e-3
        clients.append(Sending(number, delta))
    return clients


def counted(clients: list[Sending], validation: ImageSet | None, number: int = 1) -> list[float]:
    """The part that each client's mark has in the new model."""
    model = net()
    before = state(model)
    model = after(model, clients, validation, number)
    change = state(model) - before
    parts = [float(change[3 * 128 + 16 + number]) / 1e-3 for number in range(len(clients))]
    change[3 * 128 + 16 : 3 * 128 + 16 + len(clients)] = 0
    assert float(change.abs().max()) < 1e-6, "something else has moved"
    return parts


def harm(kind: str) -> Tensor:
    delta = torch.zeros(len(state(net())))
    if kind == "huge":
        delta[-4 + TARGET] = 1e9
    elif kind == "backdoor":
        delta[TARGET * 128] = 40.0
    else:
        delta[7] = float(kind)
    return delta


KINDS = ["huge", "backdoor", "nan", "inf", "-inf"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attacker", [0, 3])
def test_the_group_with_the_attacker_is_left_out(kind: str, attacker: int) -> None:
    """The backdoor changes no answer to a clean image: only the trigger that clients found tells it."""
    clients = marked(6)
    clients[attacker] = Sending(attacker, harm(kind))
    parts = counted(clients, images())
    assert sum(parts) == pytest.approx(1, abs=1e-3)
    assert parts[attacker] == 0
    if kind in ("huge", "backdoor"):  # otherwise five are left, and groups of two and three
        assert sorted(parts) == pytest.approx([0, 0, 0.25, 0.25, 0.25, 0.25], abs=1e-3)


def test_half_of_the_groups_stay_rounded_up() -> None:
    for count, kept in ((1, 1), (2, 2), (4, 2), (8, 4)):
        parts = counted(marked(count), images())
        assert sorted(parts) == pytest.approx([0.0] * (count - kept) + [1 / kept] * kept, abs=1e-3)


def test_of_an_odd_number_three_are_a_group() -> None:
    parts = sorted(counted(marked(5), images()))
    three, two = [0, 0, 1 / 3, 1 / 3, 1 / 3], [0, 0, 0, 0.5, 0.5]
    assert parts == pytest.approx(three, abs=1e-3) or parts == pytest.approx(two, abs=1e-3)


def test_updates_that_are_not_finite_leave_the_backdoor_no_room() -> None:
    """Half is kept of the groups that can be tried, not of all."""
    for number in range(1, 9):
        clients = marked(10)
        for index in (3, 6):
            clients[index] = Sending(index, harm("nan"))
        clients[1] = Sending(1, harm("backdoor"))
        assert counted(clients, images(), number)[1] == 0, number


def test_a_group_whose_model_returns_no_numbers_is_left_out() -> None:
    """The updates are finite, so that they aren't refused before; the logits with them aren't."""
    pair = random_groups(6, RoundPlan(1, 5, TRAINING))[0]
    clients = marked(6)
    for index in pair:
        clients[index] = Sending(index, torch.full_like(clients[index].delta, 3e38))
    parts = counted(clients, images())
    assert [parts[index] for index in pair] == [0, 0]
    assert sum(parts) == pytest.approx(1, abs=1e-3)


def test_groups_are_drawn_anew_in_every_round() -> None:
    clients = marked(6)
    clients[2] = Sending(2, harm("nan"))
    left_out = set()
    for number in range(1, 9):
        parts = counted(clients, images(), number)
        assert parts == counted(clients, images(), number)
        left_out.add(tuple(index for index, part in enumerate(parts) if part == 0))
    assert len(left_out) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_without_validation_an_outlier_does_not_count(kind: str) -> None:
    """Of six the two lowest and the two highest are cut off at each place, an update that isn't finite before that."""
    clients = marked(6)
    clients[4] = Sending(4, harm(kind))
    assert counted(clients, None) == [0] * 6


def test_without_validation_the_mean_is_trimmed_by_hand() -> None:
    """Of ten two are cut off at either end; 0, 1, 2, 3, 4 and 5 stay."""
    size, values = len(state(net())), (3, -9, 1, 2, 1e6, 0, 1e6, 4, 5, -8)
    clients = [Sending(number, torch.full((size,), float(value))) for number, value in enumerate(values)]
    model = net()
    before = state(model)
    model = after(model, clients, None)
    assert torch.allclose(state(model) - before, torch.full((size,), 2.5), atol=1e-5)


@pytest.mark.parametrize("validated", [True, False])
def test_a_round_without_a_finite_update_is_an_error(validated: bool) -> None:
    clients = [Sending(number, harm("nan")) for number in range(4)]
    model = net()
    before = state(model)
    with pytest.raises(DivergedError, match="round 1: the training of every client diverged"):
        model = after(model, clients, images() if validated else None)
    assert torch.equal(state(model), before)


@pytest.mark.parametrize("validated", [True, False])
def test_what_is_pruned_stays_zero(validated: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = conv(4, 1, (8, 16))
    zeros = channel_mask(locate(model, images().images), [0, 2])
    for name, zero in zeros.items():
        model.get_parameter(name).data[zero] = 0
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    clients = [Sending(number, torch.full_like(state(model), 0.5)) for number in range(4)]
    model = after(model, clients, images() if validated else None, mask=zeros)
    for name, value in model.named_parameters():
        dead = zeros.get(name, torch.zeros_like(value, dtype=torch.bool))
        assert not value[dead].any()
        assert torch.allclose(value[~dead], before[name][~dead] + 0.5, atol=1e-6)


def test_clients_train_without_what_is_pruned() -> None:
    data = images(32)
    clients = [Client(index, data.images[index::4], data.labels[index::2][:8]) for index in range(4)]
    model = net()
    zeros = {"1.weight": torch.zeros(4, 128, dtype=torch.bool)}
    zeros["1.weight"][:, 5:90] = True
    model[1].weight.data[zeros["1.weight"]] = 0
    before = state(model)
    model = after(model, clients, data, mask=zeros)
    assert not model[1].weight[zeros["1.weight"]].any()
    assert not torch.equal(state(model), before)
    assert all(not parameter._backward_hooks for parameter in model.parameters())


@pytest.mark.parametrize("validated", [True, False])
def test_counters_take_the_median_over_all_clients(validated: bool) -> None:
    """Batches that BatchNorm has seen: trying groups out leaves no trace in them."""
    data, training = images(32), LocalTraining(1, 4, "sgd", 0.01)
    clients = [
        Client(index, data.images[: 4 * steps], data.labels[: 4 * steps])
        for index, steps in enumerate((1, 5, 2, 3))
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = conv(4, 1, (8, 16))
    model = after(model, clients, data if validated else None, training=training)
    assert int(model.state_dict()["1.num_batches_tracked"]) == 2
