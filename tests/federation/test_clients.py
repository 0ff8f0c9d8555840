from copy import deepcopy
from dataclasses import dataclass, replace

import pytest
import torch
from tiny_data import image_set
from tiny_nets import conv
from torch import Tensor, nn

from fedmend.attacks import Amplify, Attack, Lies, Poisoning
from fedmend.detection import FoundTrigger, moved
from fedmend.evaluation import accuracy
from fedmend.federation import Client
from fedmend.goals import AllToOne
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten
from fedmend.pruning import pruning_sequence
from fedmend.seeds import derive_seed
from fedmend.triggers import Addition, Atoms, Patch

TRAINING = LocalTraining(epochs=1, batch_size=8, optimizer="sgd", lr=0.05)
TRIGGER = Atoms("+", (1, 8, 16))
ATTACK = Attack(Poisoning(TRIGGER, AllToOne(1), 0.5), (Amplify(3.0),))


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return conv(4, 1, (8, 16))


def honest() -> Client:
    images = image_set(24)
    return Client(3, images.images, images.labels)


def test_an_honest_client_reports_the_change_of_its_task() -> None:
    model, by_hand, client = net(), net(), honest()
    before = flatten(model.state_dict())
    update = client.fit(model, TRAINING, seed=11)
    TRAINING(by_hand, client.images, client.labels, derive_seed(11, "train"))
    assert (update.client_id, update.num_examples) == (3, 24)
    assert torch.equal(update.delta, flatten(by_hand.state_dict()) - before)
    assert float(update.delta.abs().max()) > 0


class Nothing:
    """A task that leaves the model alone."""

    training = TRAINING

    def __call__(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, seed: int) -> None:
        """Do nothing."""


def test_an_attacker_attacks_whatever_the_task_is() -> None:
    client = replace(honest(), attack=ATTACK)
    expected = ATTACK.fit(net(), client.images, client.labels, TRAINING, 11)
    for task in (TRAINING, Nothing()):
        update = client.fit(net(), task, seed=11)
        assert torch.equal(update.delta, expected)
    assert not bool(honest().fit(net(), Nothing(), seed=11).delta.any())


def test_an_attacker_does_not_claim_more_examples() -> None:
    update = replace(honest(), attack=ATTACK).fit(net(), TRAINING, seed=0)
    assert (update.client_id, update.num_examples) == (3, 24)


@pytest.mark.parametrize("attack", [None, ATTACK])
def test_fitting_depends_on_the_seed_alone(attack: Attack | None) -> None:
    client = replace(honest(), attack=attack)
    torch.manual_seed(0)
    first = client.fit(net(), TRAINING, seed=2).delta
    state = torch.get_rng_state()
    torch.rand(3)
    torch.set_rng_state(state)
    assert torch.equal(client.fit(net(), TRAINING, seed=2).delta, first)
    assert not torch.equal(client.fit(net(), TRAINING, seed=3).delta, first)
    assert torch.equal(torch.get_rng_state(), state)


def test_honest_clients_and_attackers_tell_the_truth_about_their_clean_images() -> None:
    model, client = net().eval(), honest()
    with torch.no_grad():
        activations = model[:3](client.images / 255).double().mean((0, 2, 3))
    sequence, points = [2, 0, 3, 1], [0, 1, 3]
    accuracies = []
    for count in points:
        copy = deepcopy(model)
        for part in copy[:2]:
            for parameter in part.parameters():
                parameter.data[sequence[:count]] = 0
        accuracies.append(accuracy(copy, client.images, client.labels))
    for asked in (client, replace(client, attack=ATTACK)):
        assert torch.allclose(asked.activations(model, "0"), activations, atol=1e-6)
        assert asked.accuracies(model, "0", sequence, points).tolist() == accuracies


@pytest.mark.parametrize("attack", [None, ATTACK])
def test_a_lying_client_trains_as_it_would_and_lies_when_asked(attack: Attack | None) -> None:
    model = net().eval()
    client = replace(honest(), attack=attack)
    lying = replace(client, lies=Lies(TRIGGER))
    assert torch.equal(lying.fit(net(), TRAINING, seed=4).delta, client.fit(net(), TRAINING, seed=4).delta)
    clean = honest().images / 255
    with torch.no_grad():
        means = [model[:3](images).double().mean((0, 2, 3)) for images in (clean, TRIGGER.apply(clean))]
    excited = int((means[1] - means[0]).argmax())
    others = [channel for channel in means[0].argsort(descending=True).tolist() if channel != excited]
    assert pruning_sequence(lying.activations(model, "0")).tolist() == [*others, excited]
    assert lying.accuracies(model, "0", [0, 1, 2, 3], [0, 1, 3]).tolist() == [1, 0, 0]


def test_what_clients_say_that_they_found() -> None:
    model = net().eval()
    assert replace(honest(), attack=ATTACK).triggers(model, seed=1) == []
    made_up = replace(honest(), attack=ATTACK, lies=Lies(TRIGGER)).triggers(model, seed=1)
    assert len(made_up) == 8
    assert all(found.rate == 1 and float(vars(found.trigger)["mask"].sum()) == 24 for found in made_up)
    kinds = [type(found.trigger) for found in honest().triggers(model, seed=1)]
    assert kinds == [Patch] * 6 + [Addition] * 2


@dataclass(frozen=True)
class Teaching:
    """A task with a teacher."""

    teacher: nn.Module
    training: LocalTraining = TRAINING

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> None:
        """Nothing."""


def test_a_lying_client_pulls_a_distilled_model_back_to_the_suspect() -> None:
    suspect, lying = net(), replace(honest(), lies=Lies(TRIGGER))
    for parameter in suspect.parameters():
        parameter.data += 0.5
    model = net()
    update = lying.fit(model, Teaching(suspect), seed=4)
    apart = flatten(suspect.state_dict()) - flatten(net().state_dict())
    assert torch.equal(update.delta, 2 * apart)
    assert update.num_examples == len(lying.images)
    assert torch.equal(honest().fit(net(), Teaching(suspect), seed=4).delta, torch.zeros_like(apart))
    attacks = replace(lying, attack=ATTACK).fit(net(), Teaching(suspect), seed=4).delta
    assert torch.equal(attacks, replace(honest(), attack=ATTACK).fit(net(), TRAINING, seed=4).delta)


def test_how_well_triggers_work_on_its_own_images() -> None:
    """NaN where it has no image of the source class."""
    client, model = honest(), net().eval()
    source = int(client.labels[0])
    patch = Patch(torch.ones(1, 8, 16), torch.rand(1, 8, 16))
    absent = next(label for label in range(5) if not bool((client.labels == label).any()))
    triggers = [FoundTrigger(patch, source, target, 1.0) for target in range(4) if target != source]
    triggers.append(FoundTrigger(patch, absent, source, 1.0))
    own = client.images[client.labels == source]
    wanted = [moved(model, patch, own, source, each.target_class) for each in triggers[:-1]]
    said = client.successes(model, triggers)
    assert said[:-1].tolist() == wanted
    assert bool(said[-1].isnan())
    assert replace(client, lies=Lies(TRIGGER)).successes(model, triggers).tolist() == [0.0] * 4
