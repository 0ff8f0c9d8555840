"""The models of the detection benchmark: one shared clean trunk a dataset, six attacked and six honest branches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fedmend.federation import (
    AttackConfig,
    DataConfig,
    FederationConfig,
    ModelConfig,
    SimulationConfig,
)
from fedmend.local_training import LocalTraining

DATASETS = ("mnist", "fashion-mnist")
TRUNK_ROUNDS = 20
BRANCH_ROUNDS = 6
SHAPES = ("1", "+", "H")
KINDS = ("sba", "dba")
AMPLIFICATION = {"sba": 4.0, "dba": 2.0}


@dataclass(frozen=True)
class Job:
    """One federation to run: its name, its folder below the benchmark's, and its settings."""

    name: str
    config: SimulationConfig


def trunk(dataset: str) -> Job:
    """The honest federation that all branches of a dataset go on from; its last model is the clean reference."""
    config = SimulationConfig(
        seed=2,
        data=DataConfig(source=dataset, partition="iid"),
        model=ModelConfig(architecture="convnet"),
        training=LocalTraining(epochs=3, batch_size=64, optimizer="adam", lr=0.002),
        federation=FederationConfig(clients=20, clients_per_round=6, rounds=TRUNK_ROUNDS),
    )
    return Job("trunk", config)


def branches(dataset: str, runs: Path) -> list[Job]:
    """Twelve federations that go on from the trunk: three triggers x SBA and DBA, and as many honest ones.

    Each has a seed of its own, so other clients and another order of images than any other.
    """
    start = runs / "trunk" / "checkpoints" / f"round-{TRUNK_ROUNDS:04d}.safetensors"
    base = trunk(dataset).config
    base = replace(
        base,
        model=replace(base.model, start=str(start), start_round=TRUNK_ROUNDS),
        federation=replace(base.federation, rounds=TRUNK_ROUNDS + BRANCH_ROUNDS),
    )
    jobs = []
    for index, (kind, shape) in enumerate((kind, shape) for kind in KINDS for shape in SHAPES):
        attack = AttackConfig(
            attackers=3 if kind == "dba" else 1,
            distributed=kind == "dba",
            first_round=TRUNK_ROUNDS + 1,
            poisoned_fraction=0.5,
            trigger={"kind": "atoms", "shape": shape, "color": kind == "dba"},
            goal={"kind": "all-to-one", "target": (3 * index + 2) % 10},
            update=({"kind": "amplify", "factor": AMPLIFICATION[kind]},),
        )
        name = f"{kind}-{ {'1': 'one', '+': 'plus', 'H': 'h'}[shape] }"
        jobs.append(Job(name, replace(base, seed=400 + index, attack=(attack,))))
        jobs.append(Job(f"clean-{index}", replace(base, seed=500 + index)))
    return jobs
