from pathlib import Path
from typing import Any

import pytest
import torch
from simulations import run, weights
from tiny_data import data, image_set, settings

from fedmend.errors import ConfigError
from fedmend.federation import build_federation, load_federation
from fedmend.federation.world import attackers_in, choose_clients

LARGE = {"clients": 20, "clients_per_round": 6, "rounds": 50}


def test_chosen_clients_differ_by_round_and_repeat_by_seed() -> None:
    config = settings(federation=LARGE)
    rounds = [choose_clients(config, number) for number in range(1, 51)]
    assert rounds == [choose_clients(config, number) for number in range(1, 51)]
    assert all(len(set(chosen)) == 6 and list(chosen) == sorted(chosen) for chosen in rounds)
    assert set().union(*rounds) == set(range(20))
    assert len(set(rounds)) > 45
    assert choose_clients(settings(federation=LARGE, seed=1), 1) != rounds[0]


@pytest.mark.parametrize("attackers", [1, 3])
def test_attackers_attend_every_round_from_the_first_of_theirs(attackers: int) -> None:
    config = settings(attack=[{"attackers": attackers, "first_round": 21}], federation=LARGE)
    honest, numbers = settings(federation=LARGE), set(range(attackers))
    for number in range(1, 21):
        assert choose_clients(config, number) == choose_clients(honest, number)
        assert attackers_in(config, number) == ()
    assert not all(numbers <= set(choose_clients(config, number)) for number in range(1, 21))
    for number in range(21, 41):
        chosen = choose_clients(config, number)
        assert attackers_in(config, number) == tuple(sorted(numbers))
        assert numbers <= set(chosen)
        assert len(set(chosen)) == 6
    others = {client for number in range(21, 41) for client in choose_clients(config, number)} - numbers
    assert len(others) > 12


def test_attackers_that_do_not_insist_come_when_sampled() -> None:
    sampled = settings(attack=[{"every_round": False}], federation=LARGE)
    rounds = [choose_clients(sampled, number) for number in range(1, 41)]
    assert rounds == [choose_clients(settings(federation=LARGE), number) for number in range(1, 41)]
    assert 0 < sum(0 in chosen for chosen in rounds) < 30
    assert all(
        attackers_in(sampled, number) == ((0,) if 0 in rounds[number - 1] else ()) for number in range(1, 41)
    )


def test_each_attack_begins_and_ends_in_its_own_round() -> None:
    attacks = [{"first_round": 2, "last_round": 4}, {"first_round": 4, "attackers": 2}]
    config = settings(attack=attacks, federation=LARGE)
    attackers = [attackers_in(config, number) for number in range(1, 7)]
    assert attackers == [(), (0,), (0,), (0, 1, 2), (1, 2), (1, 2)]
    assert any(0 not in choose_clients(config, number) for number in range(5, 40))
    federation = build_federation(config, image_set(80))
    for number in range(1, 7):
        attacking = tuple(
            client.client_id for client in federation.choose(number) if client.attack is not None
        )
        assert attacking == attackers_in(config, number)


def test_attackers_are_honest_before_their_first_round(tmp_path: Path) -> None:
    attack = {"first_round": 3, "every_round": False, "attackers": 3, "distributed": True}
    tables = {"federation": {"clients_per_round": 4}}
    attacked = run(settings(attack=[attack], **tables), tmp_path / "attacked")
    honest = run(settings(**tables), tmp_path / "honest")
    for number in range(3):
        assert torch.equal(*(weights(each.checkpoint(number)) for each in (attacked, honest)))
    assert not torch.equal(*(weights(each.checkpoint(3)) for each in (attacked, honest)))


@pytest.mark.parametrize(
    "partition",
    [
        {"partition": "iid"},
        {"partition": "k-label", "labels_per_client": 2},
        {"partition": "dirichlet", "alpha": 0.3},
    ],
)
def test_every_partition_deals_out_all_images_and_runs(tmp_path: Path, partition: dict[str, Any]) -> None:
    config, images = settings(data=partition), image_set(64)
    clients = build_federation(config, images).clients
    pixels = torch.cat([client.images for client in clients]).flatten(1)
    assert sorted(map(tuple, pixels.tolist())) == sorted(map(tuple, images.images.flatten(1).tolist()))
    kinds = [len(client.labels.unique()) for client in clients]
    if partition["partition"] == "k-label":
        assert kinds == [2] * 4
    if partition["partition"] == "dirichlet":
        assert len({len(client.labels) for client in clients}) > 1
    assert len(run(config, tmp_path).records()) == 4


def test_a_run_s_federation_goes_on_as_the_simulation_played_it(tmp_path: Path) -> None:
    config = settings(attack=[{"lying_clients": 2, "first_round": 2}])
    done = run(config, tmp_path)
    federation = load_federation(done, data()[0])
    assert federation.config == config
    assert [client.attack is not None for client in federation.clients] == [True, False, False, False]
    assert [client.lies is not None for client in federation.clients] == [True, True, False, False]
    chosen = [client.client_id for client in federation.choose(2)]
    assert tuple(chosen) == done.records()[2].clients
    assert [client.client_id for client in federation.choose(7)] == list(choose_clients(config, 7))
    everyone = load_federation(done, data()[0], lying_clients=4).clients
    assert all(client.lies is not None for client in everyone)
    assert all(client.lies is None for client in load_federation(done, data()[0], lying_clients=0).clients)
    with pytest.raises(ConfigError, match=r"lying_clients \(5\) is more than"):
        load_federation(done, data()[0], lying_clients=5)


def test_the_plan_of_a_round() -> None:
    config = settings()
    federation = build_federation(config, image_set(16))
    plan = federation.plan(7)
    assert (plan.number, plan.seed, plan.task, plan.mask) == (7, 5, config.training, {})
