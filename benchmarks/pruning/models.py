"""The federations of the pruning benchmark: a clean trunk for each dataset, network and seed, and attacked branches.

The paper's set-up (5 and its tables): ten clients, all in every round, one attacker, K-label data (K = 3). What it
doesn't give is ours: the networks' widths, the clients' and the attacker's training, the amplification and the number
of rounds; the README says how they were chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedmend.federation import (
    AttackConfig,
    AttackRecord,
    DataConfig,
    FederationConfig,
    ModelConfig,
    SimulationConfig,
)
from fedmend.local_training import LocalTraining

NETWORKS = {"mnist": "two-conv-20-50", "mnist-small": "two-conv-8-16", "fashion-mnist": "three-conv"}
TRUNK_ROUNDS = {"mnist": 120, "mnist-small": 120, "fashion-mnist": 160}
SETTLING_ROUNDS = {"mnist": 0, "mnist-small": 0, "fashion-mnist": 120}
ATTACK_ROUNDS = 8
PLANTED_ASR = 0.99
MOST_ATTACK_ROUNDS = 32
AMPLIFICATION = {"mnist": 4.0, "mnist-small": 4.0, "fashion-mnist": 2.5}
BRANCH_LR = 0.05
ATTACKER_LR = 0.01
SEED = 2

MNIST_PAIRS = tuple((9, target) for target in range(9)) + tuple((source, 9) for source in range(9))
FASHION_PAIRS = tuple((9, target) for target in range(9))
PATTERNS = ("1px", "3px", "5px", "7px", "9px")
LABELS = (3, 5, 7, 10)
PENALTIES = (0.0, 0.003, 0.01, 0.03)
START_ROUNDS, START_ATTACKER_IMAGES = 40, 2000
PAPER_SEEDS = (2, 3, 4)
PENALTY_ROUNDS = 30  # Figure 6
AWARE = (("mnist", 9, 1), ("mnist", 4, 9), ("fashion-mnist", 9, 0), ("fashion-mnist", 9, 7))


@dataclass(frozen=True)
class Job:
    """One federation to run: which table it is for, its folder below the benchmark's, and its settings."""

    name: str
    config: SimulationConfig


def trunk(world: str, seed: int = SEED, labels: int = 3) -> Job:
    """The honest federation that the branches of one world go on from."""
    config = SimulationConfig(
        seed=seed,
        data=DataConfig(source=world.removesuffix("-small"), partition="k-label", labels_per_client=labels),
        model=ModelConfig(architecture=NETWORKS[world]),
        training=LocalTraining(
            epochs=1, batch_size=64, optimizer="sgd", lr=0.2, momentum=0.0, images_per_epoch=1000
        ),
        federation=FederationConfig(clients=10, clients_per_round=10, rounds=TRUNK_ROUNDS[world]),
        aggregation={"kind": "uniform"},
    )
    return Job(f"{world}-{seed}-{labels}/trunk", config)


def settled(world: str, runs: Path, seed: int = SEED) -> Job:
    """The trunk's last rounds, still honest, at the branches' learning rate."""
    job = trunk(world, seed)
    if not SETTLING_ROUNDS[world]:
        return job
    first = TRUNK_ROUNDS[world]
    start = runs / job.name / "checkpoints" / f"round-{first:04d}.safetensors"
    config = replace(
        job.config,
        model=replace(job.config.model, start=str(start), start_round=first),
        training=replace(job.config.training, lr=BRANCH_LR),
        federation=replace(job.config.federation, rounds=first + SETTLING_ROUNDS[world]),
    )
    return Job(f"{job.name}-settled", config)


def attack(world: str, source: int, target: int, pattern: str = "1px") -> AttackConfig:
    """One attacker, at the client that holds most images of the source class."""
    return AttackConfig(
        chosen="most-source-images",
        poisoned_fraction=1.0,
        keep_predictions=True,
        trigger={"kind": "pixels", "pattern": pattern},
        goal={"kind": "one-to-one", "source": source, "target": target},
        update=({"kind": "amplify", "factor": AMPLIFICATION[world]},),
    )


def branch(
    world: str,
    pair: tuple[int, int],
    runs: Path,
    *,
    pattern: str = "1px",
    seed: int = SEED,
    aware: bool = False,
) -> Job:
    """A federation that goes on from the trunk with one attacker among the clients, for the first rounds at least.

    An ``aware`` attacker knows that dormant channels will be pruned and keeps its backdoor out of them. The ``pair``
    are the source and the target class.
    """
    source, target = pair
    base = settled(world, runs, seed)
    rounds = base.config.federation.rounds
    start = runs / base.name / "checkpoints" / f"round-{rounds:04d}.safetensors"
    training = replace(base.config.training, lr=BRANCH_LR)
    config = replace(
        base.config,
        training=training,
        model=replace(base.config.model, start=str(start), start_round=rounds),
        federation=replace(base.config.federation, rounds=rounds + ATTACK_ROUNDS),
        attack=(
            replace(
                attack(world, source, target, pattern),
                first_round=rounds + 1,
                pruning_aware=aware,
                training=replace(training, epochs=2, lr=ATTACKER_LR, momentum=0.9, images_per_epoch=None),
            ),
        ),
    )
    suffix = ("" if pattern == "1px" else f"-{pattern}") + ("-aware" if aware else "")
    return Job(f"{Path(base.name).parent}/{source}-{target}{suffix}", config)


def from_start(
    world: str, pair: tuple[int, int], *, labels: int = 3, penalty: float | None = None, seed: int = SEED
) -> Job:
    """A federation under attack from its first round; with a penalty, as long as in Figure 6."""
    source, target = pair
    base = trunk(world, seed, labels)
    training = base.config.training
    federation = replace(base.config.federation, rounds=START_ROUNDS)
    name = f"{Path(base.name).parent}/{source}-{target}-from-start"
    if penalty is not None:
        training = replace(training, last_conv_l2=penalty)
        federation = replace(federation, rounds=PENALTY_ROUNDS)
        name += f"-l2-{penalty:g}"
    attacker = replace(
        attack(world, source, target),
        training=replace(
            training,
            epochs=2,
            lr=ATTACKER_LR,
            momentum=0.9,
            images_per_epoch=START_ATTACKER_IMAGES,
            last_conv_l2=0.0,
        ),
    )
    return Job(name, replace(base.config, training=training, federation=federation, attack=(attacker,)))


def as_in_paper(world: str, pair: tuple[int, int], seed: int = SEED) -> Job:
    """A federation under attack from its first round, with batch normalisation between the layers (4.3).

    The attacker has the honest clients' learning rate (3.1).
    """
    job = from_start(world, pair, seed=seed)
    config = job.config
    (attacker,) = config.attack
    assert attacker.training is not None
    training = replace(attacker.training, lr=config.training.lr, momentum=config.training.momentum)
    name = job.name.removesuffix("-from-start") + "-batch-norm"
    model = replace(config.model, arguments={"batch_norm": True})
    return Job(name, replace(config, model=model, attack=(replace(attacker, training=training),)))


def goes_on(job: Job, records: Sequence[AttackRecord]) -> Job | None:
    """The same branch for more rounds, if the attacker hasn't succeeded yet and isn't at the limit either."""
    start = job.config.model.start_round
    if not start or not records:
        return None
    last = records[-1]
    if last.asr[0] >= PLANTED_ASR or last.round >= start + MOST_ATTACK_ROUNDS:
        return None
    rounds = last.round + ATTACK_ROUNDS
    return replace(job, config=replace(job.config, federation=replace(job.config.federation, rounds=rounds)))
