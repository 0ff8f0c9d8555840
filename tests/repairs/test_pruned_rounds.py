"""What the pruning paper adds to a simulation: rounds with held zeros, an attack on one class, patterns of pixels."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from tiny_data import data, image_set, settings
from torch import Tensor, nn

from fedmend.checkpoints import load_checkpoint, read_trigger
from fedmend.errors import ConfigError
from fedmend.evaluation import attack_success_rate
from fedmend.federation import (
    ClientUpdate,
    HonestClient,
    MaliciousClient,
    SimulationConfig,
    simulate,
)
from fedmend.federation.simulator import initial_model, make_clients, planted_trigger, run_round
from fedmend.goals import OneToOne
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten
from fedmend.pruning import Zeros, channel_zeros, locate, set_to_zero, union
from fedmend.triggers import Pixels

CONV = {"architecture": "tiny_nets:conv"}


class Stubborn:
    """An attacker that sends the same change for every weight, and leaves the model full of it."""

    def __init__(self, client_id: int, change: float) -> None:
        self.client_id, self.change = client_id, change

    def fit(self, model: nn.Module, seed: int) -> ClientUpdate:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(self.change)
        return ClientUpdate(self.client_id, 1, torch.full_like(flatten(model.state_dict()), self.change))


def pruned(config: SimulationConfig) -> tuple[nn.Module, Zeros]:
    """A model without two channels, and without a weight of the last layer that a third one leads to."""
    images = image_set(8)
    model = initial_model(config, images)
    single = torch.zeros(4, 512, dtype=torch.bool)
    single[1, 128 + 7] = True
    zeros = union(channel_zeros(locate(model, images.images), [0, 2]), {"5.weight": single})
    set_to_zero(model, zeros)
    return model, zeros


def dead(model: nn.Module, zeros: Zeros) -> Tensor:
    return torch.cat([model.get_parameter(name).detach()[zero] for name, zero in zeros.items()])


def test_zeros_stay_zero_whatever_an_attacker_sends() -> None:
    config = settings(model=CONV, federation={"server_lr": 2.0})
    model, zeros = pruned(config)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    run_round(model, [Stubborn(0, 0.5), Stubborn(1, 0.1)], config, 1, zeros)
    assert not dead(model, zeros).any()
    for name, value in model.named_parameters():
        alive = ~zeros.get(name, torch.zeros_like(value, dtype=torch.bool))
        assert torch.allclose(value[alive], before[name][alive] + 0.6, atol=1e-6)
    run_round(model, [Stubborn(0, 0.5)], config, 2)
    assert bool((dead(model, zeros) == 1.0).all())


def test_clients_train_without_what_is_held() -> None:
    config = settings(
        model=CONV,
        training={"optimizer": "adam", "lr": 0.01, "weight_decay": 0.01},
        attack={"amplification": 3.0, "pruning_aware": True},
    )
    model, zeros = pruned(config)
    seen: list[tuple[int, Tensor]] = []

    class Showing:
        def __init__(self, client: HonestClient | MaliciousClient) -> None:
            self.client, self.client_id = client, client.client_id

        def fit(self, model: nn.Module, seed: int) -> ClientUpdate:
            update = self.client.fit(model, seed)
            seen.append((self.client_id, dead(model, zeros)))
            return update

    clients = [Showing(client) for client in make_clients(config, image_set(64), "cpu")]  # type: ignore[arg-type]
    before = flatten(model.state_dict())
    for round_number in (1, 2):
        run_round(model, clients, config, round_number, zeros)  # type: ignore[arg-type]
    assert [client for client, _ in seen] == [0, 1, 2, 3] * 2
    assert not any(bool(values.any()) for _, values in seen)
    assert not dead(model, zeros).any()
    assert not torch.equal(flatten(model.state_dict()), before)
    assert all(not parameter._backward_hooks for parameter in model.parameters())


def test_zeros_are_not_changed_and_none_is_a_plain_round() -> None:
    config = settings(model=CONV)
    model, zeros = pruned(config)
    plain, copies = deepcopy(model), {name: zero.clone() for name, zero in zeros.items()}
    clients = make_clients(config, image_set(64), "cpu")
    run_round(deepcopy(model), clients, config, 1, zeros)
    assert all(torch.equal(zero, copies[name]) for name, zero in zeros.items())
    run_round(model, clients, config, 1, {})
    run_round(plain, clients, config, 1)
    assert torch.equal(flatten(model.state_dict()), flatten(plain.state_dict()))


# An attack on one class


def holdings(config: SimulationConfig) -> list[tuple[Tensor, Tensor]]:
    clients = make_clients(config, image_set(64), "cpu")
    owners = [client.honest if isinstance(client, MaliciousClient) else client for client in clients]
    assert [owner.client_id for owner in owners] == [0, 1, 2, 3]  # type: ignore[union-attr]
    return [(owner.images, owner.labels) for owner in owners]  # type: ignore[union-attr]


@pytest.mark.parametrize("victim", [0, 1, 2, 3])
@pytest.mark.parametrize("partition", ["k-label", "dirichlet", "iid"])
@pytest.mark.parametrize("kind", ["sba", "dba"])
def test_the_attackers_hold_most_of_the_victims_images(victim: int, partition: str, kind: str) -> None:
    table = {"partition": partition, "labels_per_client": 2, "alpha": 0.3}
    honest = holdings(settings(data=table))
    attack = {"kind": kind, "victim_class": victim, "target_class": (victim + 1) % 4}
    attacked = holdings(settings(data=table, attack=attack))
    before = [int((labels == victim).sum()) for _, labels in honest]
    after = [int((labels == victim).sum()) for _, labels in attacked]
    attackers = 1 if kind == "sba" else 3
    assert after[:attackers] == sorted(before, reverse=True)[:attackers]
    assert after[0] > 0
    left = [images for images, _ in honest]
    for images, _ in attacked:  # shares changed hands, and none was changed
        same = [index for index, other in enumerate(left) if torch.equal(images, other)]
        left.pop(same[0])
    assert not left


def test_the_attackers_settings_reach_it() -> None:
    attack = {
        "victim_class": 2,
        "target_class": 1,
        "poisoned_share": 0.7,
        "pruning_aware": True,
        "keep_answers": True,
        "training": {"epochs": 4, "lr": 0.2},
    }
    attacker, *others = make_clients(settings(attack=attack), image_set(64), "cpu")
    assert isinstance(attacker, MaliciousClient)
    poisoning = attacker.poisoning
    assert (poisoning.goal, poisoning.fraction) == (OneToOne(2, 1), 0.7)
    assert attacker.pruning_aware
    assert attacker.keep_answers
    assert attacker.training == LocalTraining(epochs=4, lr=0.2)
    assert attacker.honest.training == settings().training
    assert all(isinstance(other, HonestClient) for other in others)


def test_a_run_measures_the_attack_on_the_victims_images(tmp_path: Path) -> None:
    attack = {
        "shape": "5px",
        "victim_class": 2,
        "target_class": 1,
        "poisoned_share": 1.0,
        "amplification": 2.0,
    }
    config = settings(attack=attack, federation={"rounds": 5}, training={"epochs": 4})
    run = simulate(config, tmp_path, data=data())
    planted, expected = (
        read_trigger(tmp_path / "planted_trigger.safetensors"),
        Pixels("5px", (1, 8, 16)).patch,
    )
    assert torch.equal(planted.mask, expected.mask)
    assert torch.equal(planted.pattern, expected.pattern)
    _, test = data()
    model = initial_model(config, test)
    for record in run.records():
        load_checkpoint(run.checkpoint(record.round), model)
        assert record.asr == attack_success_rate(model, planted, OneToOne(2, 1), test.images, test.labels)
    assert run.records()[-1].asr > 0.8  # type: ignore[operator]
    assert run.records()[0].asr < 0.5  # type: ignore[operator]


def test_one_attacker_has_the_whole_pattern() -> None:
    config = settings(attack={"shape": "3px"})
    attacker = make_clients(config, image_set(64), "cpu")[0]
    planted = planted_trigger(config.attack, image_set(8))
    assert isinstance(attacker, MaliciousClient)
    assert planted is not None
    assert attacker.poisoning.trigger.size == planted.size == 3


def test_a_victim_class_that_the_data_lacks_leaves_no_run_behind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[attack\] victim_class is 4, .* classes 0 to 3"):
        simulate(settings(attack={"victim_class": 4}), tmp_path / "run", data=data())
    assert not (tmp_path / "run").exists()
