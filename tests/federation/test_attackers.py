from typing import Any

import pytest
import torch
from tiny_data import CLASSES, image_set, settings

from fedmend.attacks import Amplify, Project
from fedmend.errors import ConfigError
from fedmend.federation import Federation, SimulationConfig, build_federation
from fedmend.federation.attackers import attackers_of
from fedmend.goals import AllToOne
from fedmend.local_training import LocalTraining
from fedmend.triggers import Atoms, stamp_stored

ONE_TO_ONE = {"kind": "one-to-one", "source": 3, "target": 1}


def config(*attacks: dict[str, Any], clients: int = 8, **tables: Any) -> SimulationConfig:
    federation = {"clients": clients, "clients_per_round": min(clients, 6)}
    return settings(attack=list(attacks), federation=federation, **tables)


def built(*attacks: dict[str, Any], **more: Any) -> Federation:
    return build_federation(config(*attacks, **more), image_set(96))


def lying(federation: Federation) -> list[int]:
    return [client.client_id for client in federation.clients if client.lies is not None]


def test_the_first_free_clients_attack() -> None:
    assert attackers_of(config()) == ()
    assert attackers_of(config({})) == ((0,),)
    assert attackers_of(config({"attackers": 3})) == ((0, 1, 2),)
    assert attackers_of(config({"attackers": 2}, {"attackers": 3})) == ((0, 1), (2, 3, 4))


def test_attackers_chosen_at_random_depend_on_the_seed() -> None:
    attacks = ({"attackers": 2, "chosen": "random"}, {}, {"attackers": 2, "chosen": "random"})
    chosen = [attackers_of(config(*attacks, seed=seed)) for seed in range(8)]
    assert chosen[3] == attackers_of(config(*attacks, seed=3))
    assert len(set(chosen)) > 5
    assert all(len({number for group in groups for number in group}) == 5 for groups in chosen)


def test_an_attacker_does_what_its_tables_say() -> None:
    attack = {
        "trigger": {"kind": "atoms", "shape": "H"},
        "goal": {"kind": "all-to-one", "target": 2},
        "poisoned_fraction": 0.25,
        "update": [{"kind": "amplify", "factor": 3.0}, {"kind": "project", "radius": 2.0}],
        "training": {"epochs": 7},
        "keep_predictions": True,
        "pruning_aware": True,
    }
    federation = built(attack)
    attacker, *others = federation.clients
    assert all(client.attack is None and client.lies is None for client in others)
    assert [client.client_id for client in federation.clients] == list(range(8))
    assert attacker.attack is not None
    assert attacker.attack.poisoning.trigger == Atoms("H", (1, 8, 16))
    assert (attacker.attack.poisoning.goal, attacker.attack.poisoning.fraction) == (AllToOne(2), 0.25)
    assert attacker.attack.update == (Amplify(3.0), Project(2.0))
    assert attacker.attack.training == LocalTraining(epochs=7)
    assert attacker.attack.keep_predictions
    assert attacker.attack.pruning_aware


def test_several_attacks_have_attackers_of_their_own() -> None:
    federation = built({"attackers": 2}, {"goal": ONE_TO_ONE, "pruning_aware": True})
    attacks = [client.attack for client in federation.clients]
    assert [None if each is None else each.pruning_aware for each in attacks] == [
        False,
        False,
        True,
        *[None] * 5,
    ]


@pytest.mark.parametrize("attackers", [2, 3, 5])
def test_a_distributed_attack_deals_out_the_parts_in_turn(attackers: int) -> None:
    clients = built({"attackers": attackers, "distributed": True}).clients[:attackers]
    parts, images = Atoms("+", (1, 8, 16)).parts(), image_set(8).images
    for number, client in enumerate(clients):
        assert client.attack is not None
        stamped = stamp_stored(client.attack.poisoning.trigger, images)
        assert torch.equal(stamped, stamp_stored(parts[number % 3], images))


def test_attackers_take_over_the_data_with_most_source_images() -> None:
    skewed = {"partition": "dirichlet", "alpha": 0.3}
    attack = {"attackers": 2, "goal": ONE_TO_ONE}
    plain = built(attack, data=skewed, seed=12).clients
    swapped = built(attack | {"chosen": "most-source-images"}, data=skewed, seed=12).clients
    counts = [int((client.labels == 3).sum()) for client in plain]
    best, second = sorted(range(8), key=lambda number: -counts[number])[:2]
    assert counts[best] > counts[second] > max(counts[0], counts[1])
    assert torch.equal(swapped[0].images, plain[best].images)
    assert torch.equal(swapped[1].images, plain[second].images)
    everyone = [sorted(client.images.flatten(1).tolist() for client in group) for group in (plain, swapped)]
    assert everyone[0] == everyone[1]


def test_attackers_lie_before_their_friends() -> None:
    assert lying(built({"attackers": 2})) == []
    assert lying(built({"attackers": 2, "lying_clients": 1})) == [0]
    assert lying(built({"lying_clients": 3})) == [0, 1, 2]
    assert lying(built({"attackers": 2, "lying_clients": 3}, {"lying_clients": 2})) == [0, 1, 2, 3, 4]
    with pytest.raises(ConfigError, match=r"lying_clients \(4\) is more than the 3 free clients"):
        built({"lying_clients": 4}, {}, clients=4)


@pytest.mark.parametrize("classes", [2, 3])
def test_all_to_all_of_fewer_classes_than_the_data_has_is_refused(classes: int) -> None:
    attack = {"goal": {"kind": "all-to-all", "num_classes": classes}}
    with pytest.raises(
        ConfigError, match=rf"\[attack.goal\] num_classes is {classes}, but the data has {CLASSES}"
    ):
        built(attack)
    built({"goal": {"kind": "all-to-all", "num_classes": CLASSES}})
