"""The federations that the guard is tried in: honest or attacked, guarded or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

from fedmend.federation import AttackConfig, DataConfig, FederationConfig, ModelConfig, SimulationConfig
from fedmend.local_training import LocalTraining

DATASETS = ("mnist", "fashion-mnist")
SEEDS = (0, 1)
PARTITIONS = ("iid", "dirichlet")
"""How images are divided among the clients, by seed; Dirichlet with alpha 0.5."""
ATTACKS = ("sba", "one-to-one", "blended", "dba", "amplified")
ADAPTIVE = ("scan-aware", "loss-aware", "slow", "pruning-aware", "in-the-reference")
"""Attackers that know the guard: see :func:`attack`."""
FIRST_ATTACKED, ROUNDS, SLOW_ROUNDS, HONEST_ROUNDS = 3, 8, 22, 50
CLIENTS_PER_ROUND = 6
TARGETS = {"mnist": tuple(range(10)), "fashion-mnist": (5, 7, 8, 9)}
"""Target classes: shoes and bags, since honest models confuse garments with each other."""
SOURCES = {"mnist": tuple(range(10)), "fashion-mnist": (0, 2, 3, 4, 6)}
"""Source classes of one-to-one backdoors."""
ROLLING_BACK: dict[str, Any] = {"repair": "none"}
"""The policy of a guard that doesn't repair, beside the pre-trained model, for which the operator vouches."""


@dataclass(frozen=True)
class Cell:
    """One federation.

    Attributes:
        dataset: one of ``DATASETS``.
        seed: of everything random. It also names the partition, see ``PARTITIONS``.
        attack: one of ``ATTACKS``; None: all clients are honest.
        guarded: whether a guard reviews each round.
        repairs: whether the guard repairs what isn't clean, as by default, rather than rolling back at once.
    """

    dataset: str
    seed: int
    attack: str | None
    guarded: bool
    repairs: bool = False

    @property
    def name(self) -> str:
        """Unique, and its folder."""
        defence = "repairing" if self.repairs else "guarded" if self.guarded else "alone"
        return f"{self.dataset}-{self.seed}-{self.attack or 'honest'}-{defence}"

    @property
    def rounds(self) -> int:
        """How many. Longer: an honest guarded federation, which counts false alarms, and a slow attack."""
        if self.attack == "slow":
            return SLOW_ROUNDS
        return HONEST_ROUNDS if self.guarded and self.attack is None else ROUNDS


def cells() -> Iterator[Cell]:
    """All federations, those that decide most first."""
    for seed in SEEDS:
        for dataset in DATASETS:
            for guarded in (False, True):
                yield from (Cell(dataset, seed, attack, guarded) for attack in ATTACKS)
            yield from (Cell(dataset, seed, None, guarded) for guarded in (False, True))
    for seed in SEEDS:
        for dataset in DATASETS:
            yield from (Cell(dataset, seed, attack, guarded=True, repairs=True) for attack in ATTACKS)
    for dataset in DATASETS:
        yield from (Cell(dataset, SEEDS[0], attack, each) for attack in ADAPTIVE for each in (True, False))


def settings(cell: Cell, start: Path) -> SimulationConfig:
    """A cell's simulation, from a pre-trained model."""
    return SimulationConfig(
        seed=seed_of(cell.dataset, cell.seed),
        data=DataConfig(source=cell.dataset, partition=PARTITIONS[cell.seed], alpha=0.5),
        model=ModelConfig(architecture="convnet", start=start),
        training=LocalTraining(epochs=1, batch_size=32, lr=0.0005, images_per_epoch=600),
        federation=FederationConfig(clients=20, clients_per_round=CLIENTS_PER_ROUND, rounds=cell.rounds),
        guard=policy(cell, start) if cell.guarded else None,
        attack=() if cell.attack is None else (attack(cell),),
    )


def policy(cell: Cell, start: Path) -> dict[str, Any]:
    """The guard's: the default, with or without repairs.

    Against the attacker in the reference, the operator vouches for the first two rounds, which are attacked, rather
    than for the pre-trained model.
    """
    beginning = {"warm_up": 2} if cell.attack == "in-the-reference" else {"trusted": str(start)}
    return beginning if cell.repairs else ROLLING_BACK | beginning


def attack(cell: Cell) -> AttackConfig:
    """A cell's attack in each round from ``FIRST_ATTACKED`` on; what it plants is drawn from a seed of its own.

    SBA: one client, one trigger. One-to-one: of one source class. Blended: faint noise over the image. DBA: three
    clients, each with a part of the trigger. Amplified: one client scales its update by nearly the number of clients;
    the others' updates are scaled, too, but only as far as an attack of six rounds needs to succeed.

    Adaptive attackers are those of SBA that know the guard. Scan-aware: unlearns what its own scan finds. Loss-aware:
    trains against the scan's loss. Slow: keeps its update as large as an honest one and at a cosine of 0.9 with it.
    Pruning-aware: hides in the channels that clean images use. In the reference: attacks from round 1 on, while the
    operator vouches for the rounds.
    """
    random = Random(seed_of("attack", cell.dataset, cell.seed, cell.attack))
    target = random.choice(TARGETS[cell.dataset])
    source = random.choice([each for each in SOURCES[cell.dataset] if each != target])
    trigger: dict[str, Any] = {
        "kind": "atoms",
        "shape": random.choice("1+H"),
        "top": random.randrange(25),
        "left": random.randrange(15),
    }
    goal: dict[str, Any] = {"kind": "all-to-one", "target": target}
    factor, attackers = 2.0, 1
    if cell.attack == "one-to-one":
        goal = {"kind": "one-to-one", "source": source, "target": target}
    elif cell.attack == "blended":
        trigger = {"kind": "blend", "opacity": 0.2, "seed": random.randrange(10**6)}
    elif cell.attack == "dba":
        attackers, factor = 3, 1.5
    elif cell.attack == "amplified":
        factor = CLIENTS_PER_ROUND - 1.0
    method: dict[str, Any] | None = None
    if cell.attack == "scan-aware":
        method = {"kind": "benchmarks.guard.scan_aware:ScanAware", "part": factor / CLIENTS_PER_ROUND}
    elif cell.attack == "loss-aware":
        method = {"kind": "benchmarks.guard.loss_aware:LossAware"}
    elif cell.attack == "slow":
        method, factor = {"kind": "slow", "cosine": 0.9}, 1.0
    return AttackConfig(
        attackers=attackers,
        chosen="most-source-images",
        first_round=1 if cell.attack == "in-the-reference" else FIRST_ATTACKED,
        pruning_aware=cell.attack == "pruning-aware",
        method=method,
        distributed=cell.attack == "dba",
        poisoned_fraction=0.8,
        keep_predictions=True,
        trigger=trigger,
        goal=goal,
        update=({"kind": "amplify", "factor": factor},),
        training=LocalTraining(epochs=4, batch_size=32, lr=0.002, images_per_epoch=1200),
    )


def seed_of(*names: object) -> int:
    """A seed for a name."""
    return crc32("/".join(map(str, names)).encode())
