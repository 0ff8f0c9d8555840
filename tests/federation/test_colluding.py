from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_data import image_set, settings
from torch import Tensor

from fedmend.attacks import CollusionContext
from fedmend.errors import ConfigError
from fedmend.federation import Collected, RoundPlan, SimulationConfig, build_federation, collect, simulate
from fedmend.federation.client_fit import NOT_FINITE
from fedmend.federation.simulator import initial_model
from fedmend.local_training import LocalTraining

IMAGES = image_set(40)
ALL = {"clients": 4, "clients_per_round": 4, "rounds": 1}


class Own:
    """A collusion that sends what it is told to, and keeps what it saw."""

    untargeted = True

    def __init__(self, sent: Any = None, omniscient: bool = False) -> None:
        self.sent, self.omniscient = sent, omniscient
        self.seen: list[tuple[Tensor, CollusionContext]] = []

    def __call__(self, own: Tensor, context: CollusionContext) -> Tensor:
        self.seen.append((own, context))
        return torch.full_like(own, 7.0) if self.sent is None else self.sent(own)


def config_with(**attack: Any) -> SimulationConfig:
    return settings(federation=ALL, attack=[{"attackers": 2} | attack])


def collected(collusion: Own | None, net: str = "linear") -> Collected:
    config = replace(config_with(), model=replace(config_with().model, architecture=f"tiny_nets:{net}"))
    clients = [
        each
        if each.attack is None
        else replace(each, attack=replace(each.attack, poisoning=None, collusion=collusion))
        for each in build_federation(config, IMAGES).clients
    ]
    return collect(initial_model(config, IMAGES), clients, RoundPlan(1, 0, LocalTraining(epochs=1)))


def test_only_attackers_updates_are_replaced_and_buffers_are_not() -> None:
    plain, sent = collected(None, "conv").updates, collected(Own(), "conv").updates
    assert torch.equal(sent.deltas[2:], plain.deltas[2:])
    assert torch.equal(sent.deltas[:2, ~sent.parameters], plain.deltas[:2, ~plain.parameters])
    assert bool((sent.deltas[:2, sent.parameters] == 7).all())
    assert int((~sent.parameters).sum()) > 0


@pytest.mark.parametrize("omniscient", [False, True])
def test_it_sees_the_honest_updates_or_its_own_only(omniscient: bool) -> None:
    plain, collusion = collected(None).updates.deltas, Own(omniscient=omniscient)
    collected(collusion)
    ((own, context),) = collusion.seen
    assert torch.equal(own, plain[:2])
    assert torch.equal(context.known, plain[2:] if omniscient else plain[:2])
    assert context.clients == 4


def test_what_is_not_finite_is_refused_like_anyones() -> None:
    found = collected(Own(lambda own: own / 0))
    assert found.updates.client_ids == (2, 3)
    assert [(each.client, each.reason) for each in found.refused] == [(0, NOT_FINITE), (1, NOT_FINITE)]


@pytest.mark.parametrize(
    "sent", [lambda own: None, lambda own: own[:1], lambda own: own.double()], ids=["none", "one", "double"]
)
def test_what_is_no_update_is_the_users_mistake(sent: Any) -> None:
    with pytest.raises(ConfigError, match="Own must return new updates like those it is given"):
        collected(Own(sent))


@pytest.mark.parametrize(
    "attack",
    [
        {"collusion": {"kind": "fang-krum"}},
        {"collusion": {"kind": "a-little-is-enough", "backdoor": True, "omniscient": True}},
        {"method": {"kind": "neurotoxin"}},
        {"method": {"kind": "alternating"}, "update": [{"kind": "amplify", "factor": 2.0}]},
        {"poisoning": {"kind": "clean-label", "steps": 2}},
    ],
    ids=["krum", "little", "neurotoxin", "alternating", "clean-label"],
)
def test_a_simulation_repeats_bit_by_bit(attack: dict[str, Any], tmp_path: Path) -> None:
    data = (IMAGES, image_set(12))
    first, again, honest = (
        simulate(config, tmp_path / name, data=data).checkpoint(1).read_bytes()
        for name, config in (
            ("first", config_with(**attack)),
            ("again", config_with(**attack)),
            ("honest", settings(federation=ALL)),
        )
    )
    assert first == again
    assert first != honest


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ({"method": {"kind": "neurotoxine"}}, r"\[attack.method\] .*did you mean neurotoxin\?"),
        ({"method": {"kind": "slow", "cosine": 2.0}}, r"\[attack.method\] .*cosine"),
        ({"collusion": {"kind": "fang"}}, r"\[attack.collusion\] there is no collusion 'fang'"),
        (
            {"poisoning": {"kind": "clean-label", "epsilom": 0.1}},
            r"\[attack.poisoning\] .*did you mean epsilon\?",
        ),
        ({"poisoning": {"kind": "clean-label", "steps": 0}}, r"\[attack.poisoning\] steps"),
        ({"trigger": {"kind": "semantic", "fraction": 0.0}}, r"\[attack.trigger\] fraction"),
    ],
    ids=["name", "value", "collusion", "key", "steps", "trigger"],
)
def test_bad_tables_are_refused(attack: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_with(**attack)
