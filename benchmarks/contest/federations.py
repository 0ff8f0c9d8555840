"""The contest's federations: every attack against every aggregation rule and every defence.

Rules, triggers, update steps and attack methods come from fedmend's registries: a new one takes part by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

from fedmend.aggregation import AGGREGATORS
from fedmend.attacks import (
    ATTACK_METHODS,
    UPDATE_STEPS,
    attack_method_from_table,
    update_step_from_table,
)
from fedmend.comparison import Cell, Votes
from fedmend.errors import FedmendError
from fedmend.federation import AttackConfig, DataConfig, FederationConfig, ModelConfig, SimulationConfig
from fedmend.local_training import LocalTraining
from fedmend.triggers import TRIGGERS, trigger_from_table

DATASETS = ("fashion-mnist", "cifar10")
SHAPES = {"fashion-mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
PARTITIONS = ("iid", "dirichlet")
"""How images are divided among the clients; Dirichlet with alpha 0.5."""
SHARES = (0.05, 0.1, 0.2, 0.4)
"""Attackers among the clients."""
RULES = tuple(AGGREGATORS)
DEFENCES = ("nothing", "guard", "guard-repair", "votes")
SEED = 0

CLIENTS, FIRST_ATTACKED, ROUNDS = 20, 3, 8
TARGETS = {"fashion-mnist": (5, 7, 8, 9), "cifar10": tuple(range(10))}
"""Target classes; of Fashion-MNIST shoes and bags, since honest models confuse garments with each other."""
SOURCES = {"fashion-mnist": (0, 2, 3, 4, 6), "cifar10": tuple(range(10))}
"""Source classes of one-to-one backdoors."""
FACTOR = 2.0
STARTS = Path("benchmarks/runs/contest")
"""Where the pre-trained models are, from the repository's root."""


@dataclass(frozen=True)
class Federation:
    """One federation of the contest.

    Attributes:
        dataset, partition, rule: as above.
        share: the fraction of attackers; 0 in an honest federation.
        attack: one of :data:`ATTACKS`; None: all clients are honest.
        defence: one of ``DEFENCES``.
    """

    dataset: str
    partition: str
    rule: str
    share: float = 0.0
    attack: str | None = None
    defence: str = "nothing"

    @property
    def name(self) -> str:
        """Unique."""
        attacked = f"{self.attack}-{self.share:.0%}-{self.defence}" if self.attack else "honest"
        return f"{self.dataset}-{self.partition}-{self.rule}-{attacked}"

    def honest(self) -> Federation:
        """The same without an attack and without a defence."""
        return Federation(self.dataset, self.partition, self.rule)


def _patch(dataset: str, random: Random) -> dict[str, Any]:
    _, height, width = SHAPES[dataset]
    return {
        "kind": "atoms",
        "shape": random.choice("1+H"),
        "top": random.randrange(height - 3),
        "left": random.randrange(width - 13),
    }


def _joining() -> dict[str, dict[str, Any]]:
    """Attacks by further triggers, update steps and methods of the registries, as far as they have defaults."""
    found: dict[str, dict[str, Any]] = {}
    for kind in TRIGGERS:
        if kind not in ("atoms", "pixels", "box", "blend"):
            try:
                for shape in SHAPES.values():
                    trigger_from_table({"kind": kind}, shape)
            except FedmendError:
                continue
            found[kind] = {"trigger": {"kind": kind}}
    for kind in UPDATE_STEPS:
        if kind != "amplify" and _has_defaults(update_step_from_table, kind):
            found[kind] = {"update": ({"kind": kind},)}
    for kind in ATTACK_METHODS:
        if _has_defaults(attack_method_from_table, kind):
            found[kind] = {"method": {"kind": kind}}
    return found


def _has_defaults(made: Callable[[dict[str, Any]], object], kind: str) -> bool:
    try:
        made({"kind": kind})
    except FedmendError:
        return False
    return True


ATTACKS: dict[str, dict[str, Any]] = {
    "sba": {},
    "dba": {"distributed": True},
    "amplified": {},
    "one-to-one": {},
    "blended": {},
    "a-little-is-enough": {"collusion": {"kind": "a-little-is-enough", "backdoor": True}, "update": ()},
    **_joining(),
}
"""What differs from a single backdoor attack (SBA) with one trigger, from every class to one."""


def federations() -> Iterator[Federation]:
    """Every federation of the contest, the chosen ones first; honest ones precede those that need them."""
    seen: set[str] = set()
    for each in (*chosen(), *_every()):
        for federation in (each.honest(), each):
            if federation.name not in seen:
                seen.add(federation.name)
                yield federation


def chosen() -> Iterator[Federation]:
    """Those that decide most, within a day on two cores."""
    first, second = DATASETS
    for attack, rule, defence in product(ATTACKS, RULES, ("nothing", "guard")):
        yield Federation(first, "iid", rule, 0.2, attack, defence)
    for defence, attack in product(("guard-repair", "votes"), ATTACKS):
        yield Federation(first, "iid", "fedavg", 0.2, attack, defence)
    for share, attack, defence in product((0.05, 0.1, 0.4), ATTACKS, ("nothing", "guard")):
        yield Federation(first, "iid", "fedavg", share, attack, defence)
    for dataset, partition in ((first, "dirichlet"), (second, "iid")):
        for attack, rule, defence in product(ATTACKS, RULES, ("nothing", "guard")):
            yield Federation(dataset, partition, rule, 0.2, attack, defence)


def _every() -> Iterator[Federation]:
    for parts in product(DATASETS, PARTITIONS, RULES, SHARES, ATTACKS, DEFENCES):
        yield Federation(*parts)


def start_of(dataset: str) -> Path:
    """The pre-trained model that a dataset's federations start from, for which the operator vouches."""
    return STARTS / f"{dataset}-start.safetensors"


def cell(federation: Federation) -> Cell:
    """A federation as a cell of a comparison."""
    start = str(start_of(federation.dataset))
    guards = {
        "guard": {"trusted": start, "repair": "none"},
        "guard-repair": {"trusted": start, "repair": "unlearn"},
    }
    config = SimulationConfig(
        seed=SEED,
        data=DataConfig(source=federation.dataset, partition=federation.partition, alpha=0.5),
        model=ModelConfig(architecture="convnet", start=start),
        training=LocalTraining(epochs=1, batch_size=32, lr=0.0005, images_per_epoch=300),
        federation=FederationConfig(clients=CLIENTS, clients_per_round=CLIENTS, rounds=ROUNDS),
        aggregation={"kind": federation.rule},
        guard=guards.get(federation.defence),
        attack=() if federation.attack is None else (attack(federation),),
    )
    choices = {
        "dataset": federation.dataset,
        "partition": federation.partition,
        "attackers": f"{federation.share:.0%}",
        "rule": federation.rule,
        "attack": federation.attack or "honest",
        "defence": federation.defence,
    }
    return Cell(choices, config, Votes() if federation.defence == "votes" else None)


def attack(federation: Federation) -> AttackConfig:
    """A federation's attack, in each round from ``FIRST_ATTACKED`` on.

    Attackers train longer and faster than honest clients, and double their updates, but for the amplified attack, which
    scales them as far as replaces the model under FedAvg, and for those with an update step of their own. What is
    planted depends on data and attack alone.
    """
    name, dataset = federation.attack, federation.dataset
    assert name is not None
    random = Random(crc32(f"{dataset}/{name}".encode()))
    target = random.choice(TARGETS[dataset])
    attackers = max(1, round(federation.share * CLIENTS))
    goal: dict[str, Any] = {"kind": "all-to-one", "target": target}
    trigger = _patch(dataset, random)
    factor = FACTOR
    if name == "one-to-one":
        source = random.choice([each for each in SOURCES[dataset] if each != target])
        goal = {"kind": "one-to-one", "source": source, "target": target}
    elif name == "blended":
        trigger = {"kind": "blend", "opacity": 0.2, "seed": random.randrange(10**6)}
    elif name == "amplified":
        factor = CLIENTS / attackers
    settings: dict[str, Any] = {"update": ({"kind": "amplify", "factor": factor},), "trigger": trigger}
    return AttackConfig(
        attackers=attackers,
        chosen="most-source-images",
        first_round=FIRST_ATTACKED,
        poisoned_fraction=0.8,
        keep_predictions=True,
        goal=goal,
        training=LocalTraining(epochs=4, batch_size=32, lr=0.002, images_per_epoch=600),
        **(settings | ATTACKS[name]),
    )
