from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch
from tiny_data import image_set, settings
from tiny_nets import conv, linear
from torch import Tensor, nn

from fedmend.attacks import Poisoning
from fedmend.data import ImageSet
from fedmend.detection import FoundTrigger
from fedmend.errors import DataError
from fedmend.evaluation import attack_success_rate
from fedmend.federation import Client, ClientUpdate, HonestClient, MaliciousClient
from fedmend.federation.distillation import Distillation
from fedmend.federation.simulator import run_round
from fedmend.goals import AllToOne
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten
from fedmend.pruning import channel_zeros, locate
from fedmend.repairs.selection_rounds import guarded_round, resistance, with_lessons
from fedmend.repairs.trigger_pool import TriggerPool
from fedmend.triggers import Patch

SHAPE, TARGET = (1, 8, 16), 1
CONFIG = settings()


def images(count: int = 40, seed: int = 0) -> ImageSet:
    """With a black pixel in the corner, where the trigger goes."""
    made = image_set(count, seed)
    made.images[:, :, 0, 0] = 0
    return made


def white(*places: tuple[int, int]) -> Patch:
    mask = torch.zeros(1, 8, 16)
    for row, column in places:
        mask[0, row, column] = 1
    return Patch(mask, mask.clone())


def pool(*found: FoundTrigger) -> TriggerPool:
    made = TriggerPool(SHAPE, 4, 1, most=10)
    assert made.add(0, found) is None
    return made


CORNER = pool(FoundTrigger(white((0, 0)), 0, TARGET, 1.0))


def net(corner: float = 0.0) -> nn.Sequential:
    """It sees which block is bright; the weight of the target for the corner can be a backdoor."""
    with torch.random.fork_rng(devices=[]):
        model = linear(4, 1, (8, 16))
    assert isinstance(model, nn.Sequential)
    weight = model[1].weight.data.view(4, 8, 16)
    weight[:] = 0
    for label in range(4):
        weight[label, 5:, 4 * label : 4 * label + 4] = 0.7
    weight[TARGET, 0, 0] = corner
    model[1].bias.data[:] = 0
    return model


def state(model: nn.Module) -> Tensor:
    return flatten(model.state_dict())


@dataclass
class Sending:
    """A client that sends this change and leaves the model full of noughts."""

    client_id: int
    delta: Tensor

    def fit(self, model: nn.Module, seed: int) -> ClientUpdate:
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
    guarded_round(model, clients, CONFIG, number, {}, CORNER, validation)  # type: ignore[arg-type]
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
    kept = [0, 0, 0.25, 0.25, 0.25, 0.25] if kind in ("huge", "backdoor") else [0, 0, 0, 0, 0.5, 0.5]
    assert sorted(parts) == pytest.approx(kept, abs=1e-3)
    assert parts[attacker] == 0


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


def test_groups_are_drawn_anew_in_every_round() -> None:
    clients = marked(6)
    clients[2] = Sending(2, harm("nan"))
    partners = set()
    for number in range(1, 9):
        parts = counted(clients, images(), number)
        assert parts == counted(clients, images(), number)
        partners |= {index for index, part in enumerate(parts) if part == 0 and index != 2}
    assert len(partners) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_without_validation_an_outlier_does_not_count(kind: str) -> None:
    """Of six the two lowest and the two highest are cut off at each place, an update that isn't finite before that."""
    clients = marked(6)
    clients[4] = Sending(4, harm(kind))
    assert counted(clients, None) == [0] * 6


def test_without_validation_the_mean_is_trimmed_by_hand() -> None:
    """Of ten two are cut off at either end; 0, 1, 2, 3, 4 and 5 stay."""
    size, values = len(state(net())), (3, -9, 1, 2, 1e6, 0, 1e6, 4, 5, -8)
    clients = [Sending(number, torch.full((size,), value)) for number, value in enumerate(values)]
    model = net()
    before = state(model)
    guarded_round(model, clients, CONFIG, 1, {}, CORNER, None)  # type: ignore[arg-type]
    assert torch.allclose(state(model) - before, torch.full((size,), 2.5), atol=1e-5)


@pytest.mark.parametrize("validated", [True, False])
def test_a_round_without_a_finite_update_is_an_error(validated: bool) -> None:
    clients = [Sending(number, harm("nan")) for number in range(4)]
    model = net()
    before = state(model)
    with pytest.raises(DataError, match="no client's update is finite"):
        guarded_round(model, clients, CONFIG, 1, {}, CORNER, images() if validated else None)  # type: ignore[arg-type]
    assert torch.equal(state(model), before)


@pytest.mark.parametrize("validated", [True, False])
def test_what_is_pruned_stays_zero(validated: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = conv(4, 1, (8, 16))
    zeros = channel_zeros(locate(model, images().images), [0, 2])
    for name, zero in zeros.items():
        model.get_parameter(name).data[zero] = 0
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    clients = [Sending(number, torch.full_like(state(model), 0.5)) for number in range(4)]
    guarded_round(model, clients, CONFIG, 1, zeros, CORNER, images() if validated else None)  # type: ignore[arg-type]
    for name, value in model.named_parameters():
        dead = zeros.get(name, torch.zeros_like(value, dtype=torch.bool))
        assert not value[dead].any()
        assert torch.allclose(value[~dead], before[name][~dead] + 0.5, atol=1e-6)


def test_clients_train_without_what_is_pruned() -> None:
    data = images(32)
    training = LocalTraining(2, 8, "sgd", 0.05)
    clients = [
        HonestClient(index, data.images[index::4], data.labels[index::2][:8], training) for index in range(4)
    ]
    model = net()
    zeros = {"1.weight": torch.zeros(4, 128, dtype=torch.bool)}
    zeros["1.weight"][:, 5:90] = True
    model[1].weight.data[zeros["1.weight"]] = 0
    before = state(model)
    guarded_round(model, clients, CONFIG, 1, zeros, CORNER, data)
    assert not model[1].weight[zeros["1.weight"]].any()
    assert not torch.equal(state(model), before)
    assert all(not parameter._backward_hooks for parameter in model.parameters())


@pytest.mark.parametrize("validated", [True, False])
def test_counters_take_the_maximum_over_all_clients(validated: bool) -> None:
    """Batches that BatchNorm has seen: trying groups out leaves no trace in them."""
    data, training = images(32), LocalTraining(1, 4, "sgd", 0.01)
    clients = [
        HonestClient(index, data.images[: 4 * steps], data.labels[: 4 * steps], training)
        for index, steps in enumerate((1, 5, 2, 3))
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = conv(4, 1, (8, 16))
    guarded_round(model, clients, CONFIG, 1, {}, CORNER, data if validated else None)
    assert int(model.state_dict()["1.num_batches_tracked"]) == 5


# How well a model resists


def validation() -> ImageSet:
    """Eight images of class 0, four of class 2 and one of class 3 that looks like class 2; three carry a pixel."""
    labels = torch.tensor([0] * 8 + [2] * 5)
    picture = images(4).images
    made = ImageSet(picture[labels].clone(), labels.clone(), tuple("abcd"))
    made.labels[-1] = 3
    return made


def test_resistance_by_hand() -> None:
    """Class 0 is 8 of 13 images, class 2 four, all right; the last image is wrong. 12 / 13 on clean images."""
    model = net(corner=40.0)
    assert resistance(model, validation(), pool()) == pytest.approx(12 / 13)
    moved, idle = FoundTrigger(white((0, 0)), 0, 1, 0.9), FoundTrigger(white((1, 1)), 2, 1, 0.3)
    assert resistance(model, validation(), pool(moved)) == pytest.approx(12 / 13)
    assert resistance(model, validation(), pool(idle)) == pytest.approx(12 / 13 + 1)
    assert resistance(model, validation(), pool(moved, idle)) == pytest.approx(12 / 13 + 0.3 / 1.2)


def test_resistance_counts_right_answers_and_not_only_the_target() -> None:
    """An image that a trigger sends to a third class is lost as well."""
    astray = FoundTrigger(white((0, 0)), 2, 3, 0.5)
    assert resistance(net(corner=40.0), validation(), pool(astray)) == pytest.approx(12 / 13)
    assert resistance(net(), validation(), pool(astray)) == pytest.approx(12 / 13 + 1)


def test_resistance_is_a_share_of_the_images_of_the_class() -> None:
    """Half of class 0's images have a white block: it adds 8.4 to their logit, the others' block 5.9 at most."""
    some = validation()
    some.images[:4, :, 5:, :4] = 255
    stamped = pool(FoundTrigger(white((0, 0)), 0, 1, 1.0))
    assert resistance(net(corner=5.3), some, stamped) == pytest.approx(12 / 13 + 1 / 2)


def test_only_the_three_best_triggers_are_tried() -> None:
    rates = ((1, 0.5), (2, 0.6), (3, 0.7))
    model, idle = net(corner=40.0), [FoundTrigger(white((1, 1)), 0, target, rate) for target, rate in rates]
    weak = FoundTrigger(white((0, 0)), 2, 1, 0.4)
    assert resistance(model, validation(), pool(weak, *idle)) == pytest.approx(12 / 13 + 1)
    assert resistance(model, validation(), pool(weak, *idle[:2])) == pytest.approx(12 / 13 + 1.1 / 1.5)


def test_one_trigger_of_a_pair_of_classes_is_tried() -> None:
    """A client that sends the same one three times pushes no other out."""
    decoys = [FoundTrigger(white((1, 1)), 0, 1, 1.0)] * 3
    moving = FoundTrigger(white((0, 0)), 2, 1, 1.0)
    assert resistance(net(corner=40.0), validation(), pool(*decoys, moving)) == pytest.approx(12 / 13 + 0.5)


def test_triggers_that_cannot_be_tried_do_not_count() -> None:
    """There is no image of class 1, and a rate of zero weighs nothing."""
    absent, nothing = FoundTrigger(white((1, 1)), 1, 2, 0.9), FoundTrigger(white((1, 1)), 0, 2, 0.0)
    assert resistance(net(), validation(), pool(absent, nothing)) == pytest.approx(12 / 13)


def test_resistance_leaves_the_model_as_it_is() -> None:
    model = nn.Sequential(net(), nn.Dropout(0.5)).train()
    before, generator = state(model), torch.get_rng_state()
    resistance(model, validation(), CORNER)
    assert model[1].training
    assert torch.equal(state(model), before)
    assert torch.equal(torch.get_rng_state(), generator)


# Lessons


def federation(attackers: int = 0, epochs: int = 1) -> list[Client]:
    data, training = images(96), LocalTraining(epochs, 8, "sgd", 0.05)
    clients: list[Client] = []
    for index in range(6):
        own = slice(16 * index, 16 * (index + 1))
        honest = HonestClient(index, data.images[own], data.labels[own], training)
        poisoning = Poisoning(white((0, 0)), AllToOne(TARGET), 1.0)
        clients.append(MaliciousClient(honest, poisoning, 5.0) if index < attackers else honest)
    return clients


def test_only_honest_clients_are_taught() -> None:
    teacher, how = net(), Distillation(lr=0.4, decay=0.5)
    clients = federation(attackers=2)
    taught = with_lessons(clients, CORNER, teacher, how, 1)
    assert [client.client_id for client in taught] == list(range(6))
    assert all(one is other for one, other in zip(taught[:2], clients[:2], strict=True))
    for before, after in zip(clients[2:], taught[2:], strict=True):
        assert isinstance(before, HonestClient)
        assert isinstance(after, HonestClient)
        assert before.lesson is None
        assert after.lesson is not None
        assert (after.lesson.teacher, after.lesson.settings) == (teacher, how)
        assert torch.equal(after.lesson.masks[0], white((0, 0)).mask)
        assert after.images is before.images


@pytest.mark.parametrize(("number", "lr"), [(1, 0.4), (2, 0.2), (4, 0.05)])
def test_the_rate_decays_from_round_to_round(number: int, lr: float) -> None:
    (taught,) = with_lessons(federation()[:1], CORNER, net(), Distillation(lr=0.4, decay=0.5), number)
    assert isinstance(taught, HonestClient)
    assert taught.lesson is not None
    assert taught.lesson.lr == pytest.approx(lr)


def test_the_backdoor_goes_although_its_attacker_takes_part() -> None:
    """In plain rounds, where the same clients learn the same, it carries the day."""
    suspect, test = net(corner=9.0), images(40, seed=1)
    guarded, plain = deepcopy(suspect), deepcopy(suspect)
    assert resistance(suspect, test, CORNER) == 1  # right on clean images and on no other
    for number in range(1, 4):
        clients = with_lessons(federation(attackers=1, epochs=10), CORNER, suspect, Distillation(), number)
        guarded_round(guarded, clients, CONFIG, number, {}, CORNER, images(40, seed=2))
        run_round(plain, clients, CONFIG, number)

    def success(model: nn.Module) -> float:
        return attack_success_rate(model, white((0, 0)), AllToOne(TARGET), test.images, test.labels)

    assert (success(suspect), success(plain)) == (1, 1)
    assert success(guarded) < 0.1
    assert resistance(guarded, test, CORNER) > 1.9


def test_a_round_depends_on_the_seed_alone() -> None:
    def after(seed: int) -> Tensor:
        model = net(corner=12.0)
        clients = with_lessons(federation(attackers=1), CORNER, net(corner=12.0), Distillation(), 1)
        guarded_round(model, clients, settings(seed=seed), 1, {}, CORNER, images())
        return state(model)

    torch.manual_seed(1)
    first = after(5)
    torch.manual_seed(2)
    generator = torch.get_rng_state()
    assert torch.equal(after(5), first)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not torch.equal(after(6), first)
