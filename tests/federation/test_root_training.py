from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_data import image_set, settings
from torch import Tensor

from fedmend.aggregation import Chain, FedAvg, FLTrust, State, Updates
from fedmend.errors import ConfigError, DivergedError
from fedmend.federation import Client, RoundPlan, Server, build_federation, collect, next_model, simulate
from fedmend.federation.root_training import root_client, with_server_delta
from fedmend.federation.simulator import initial_model
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten

CONFIG = settings(model={"architecture": "tiny_nets:linear"})
IMAGES = image_set(40)
CLIENTS = build_federation(CONFIG, IMAGES).clients


def root_of(count: int, seed: int = 0) -> Client:
    client = root_client(FLTrust(root_images=count), CLIENTS, seed)
    assert client is not None
    return client


def pairs(images: Tensor, labels: Tensor) -> set[tuple[int, ...]]:
    return {(label, *image) for label, image in zip(labels.tolist(), images.flatten(1).tolist(), strict=True)}


def test_its_images_are_drawn_from_all_clients_once_each() -> None:
    root = root_of(30, seed=3)
    drawn = pairs(root.images, root.labels)
    assert len(root.images) == len(drawn) == 30
    assert drawn <= pairs(IMAGES.images, IMAGES.labels)
    assert torch.equal(root_of(30, seed=3).images, root.images)
    assert not torch.equal(root_of(30, seed=4).images, root.images)


def test_only_a_rule_that_wants_them_gets_them() -> None:
    assert root_client(FedAvg(), CLIENTS, 0) is None
    assert root_client(Chain(), CLIENTS, 0) is None
    assert root_client(Chain(rule={"kind": "fltrust", "root_images": 5}), CLIENTS, 0) is not None


def test_a_number_of_images_that_is_none_is_refused() -> None:
    class Own:
        root_images = "many"

        def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
            return updates.deltas[0], state

    with pytest.raises(ConfigError, match="root_images"):
        root_client(Own(), CLIENTS, 0)


def test_the_rule_gets_what_the_servers_training_changes() -> None:
    seen: list[Updates] = []

    def rule(updates: Updates, state: State) -> tuple[Tensor, State]:
        seen.append(updates)
        return updates.deltas.mean(0), state

    model, plan = initial_model(CONFIG, IMAGES), RoundPlan(1, 0, LocalTraining(epochs=1))
    before, root = flatten(model.state_dict()), root_of(20)
    collected = collect(model, CLIENTS, plan)
    next_model(model, collected, plan, Server(rule, root=root))
    own = seen[0].server_delta
    assert own is not None
    assert torch.equal(flatten(model.state_dict()), before)
    trained = initial_model(CONFIG, IMAGES)
    assert torch.equal(own, root.fit(trained, plan.task, plan.seed_of(-1)).delta)
    next_model(model, collected, plan, Server(rule))
    assert seen[1].server_delta is None


def test_a_servers_training_that_diverges_ends_the_round() -> None:
    model, honest = initial_model(CONFIG, IMAGES), RoundPlan(4, 0, LocalTraining(epochs=1))
    updates = collect(model, CLIENTS, honest).updates
    wild = replace(honest, task=LocalTraining(epochs=2, optimizer="sgd", lr=1e38))
    with pytest.raises(
        DivergedError, match=r"round 4: the server's own training on 20 root images .*diverged"
    ):
        with_server_delta(updates, model, wild, root_of(20))


RULES: list[dict[str, Any]] = [
    {"kind": "fltrust", "root_images": 20},
    {"kind": "foolsgold"},
    {"kind": "flame"},
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["kind"])
def test_a_simulation_with_such_a_rule_resumes_to_the_same_bits(rule: dict[str, Any], tmp_path: Path) -> None:
    config = replace(CONFIG, aggregation=rule)
    data = (IMAGES, image_set(12))
    short = replace(config, federation=replace(config.federation, rounds=1))
    whole = simulate(config, tmp_path / "whole", data=data)
    simulate(short, tmp_path / "parts", data=data)
    resumed = simulate(config, tmp_path / "parts", data=data, resume=True)
    last = config.federation.rounds
    assert last > 1
    assert whole.checkpoint(last).read_bytes() == resumed.checkpoint(last).read_bytes()
