"""The settings of a simulation, checked when they are made, in Python as in TOML."""

from __future__ import annotations

import os
from dataclasses import asdict, field
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from fedmend.aggregation import aggregator_from_table
from fedmend.checked_settings import Count, Fraction, Natural, Positive, PositiveFraction, settings
from fedmend.errors import ConfigError
from fedmend.federation.attack_config import AttackConfig, check_table
from fedmend.federation.frozen_table import FrozenTable, Table, plain
from fedmend.local_training import LocalTraining
from fedmend.models import KNOWN_NORMALIZATIONS


def _as_text(path: object) -> object:
    return os.fspath(path) if isinstance(path, os.PathLike) else path


def _numbers(given: object, which: int) -> object:
    """The mean (0) or standard deviation (1): numbers, one number, or a known data set's name."""
    if isinstance(given, str):
        if given not in KNOWN_NORMALIZATIONS:
            known = ", ".join(KNOWN_NORMALIZATIONS)
            raise PydanticCustomError("normalization", f"Expected a number, a list of them, or {known}")
        return KNOWN_NORMALIZATIONS[given][which]
    return (given,) if isinstance(given, int | float) else given


@settings
class DataConfig:
    """Which images, and how they are divided among the clients (see ``fedmend.data``)."""

    source: Annotated[str, BeforeValidator(_as_text)] = "fashion-mnist-sample"
    partition: Literal["iid", "k-label", "dirichlet"] = "iid"
    labels_per_client: Count = 3
    alpha: Positive = 0.5


@settings
class ModelConfig:
    """The architecture and its initial weights.

    Attributes:
        architecture: a built-in name or ``package.module:factory``.
        start: a checkpoint to start from instead of random weights.
        start_round: the checkpoint's round number.
        arguments: further arguments of the architecture's factory, by name.
        mean, std: what the architecture expects pixels in [0, 1] to be normalised by: one number, one per channel, or
            a name in ``KNOWN_NORMALIZATIONS``; None if it takes them as they are.
    """

    architecture: str = "convnet"
    start: Annotated[str, BeforeValidator(_as_text)] | None = None
    start_round: Natural = 0
    arguments: Table = field(default_factory=lambda: FrozenTable({}))
    mean: Annotated[tuple[Fraction, ...] | None, BeforeValidator(partial(_numbers, which=0))] = None
    std: Annotated[tuple[PositiveFraction, ...] | None, BeforeValidator(partial(_numbers, which=1))] = None

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            missing = "mean" if self.mean is None else "std"
            raise ConfigError(f"[model] mean and std belong together; give {missing} as well")
        if self.start is None and self.start_round:
            raise ConfigError("[model] start_round needs [model] start, the checkpoint of that round")


@settings
class FederationConfig:
    """Clients and rounds.

    Attributes:
        clients: number of clients.
        clients_per_round: number of clients that train in a round.
        rounds: the number of the last round.
        server_lr: scales the aggregated update of the parameters.
    """

    clients: Count = 20
    clients_per_round: Count = 6
    rounds: Count = 20
    server_lr: Positive = 1.0

    def __post_init__(self) -> None:
        if self.clients_per_round > self.clients:
            raise ConfigError(
                f"[federation] clients_per_round ({self.clients_per_round}) is more than clients ({self.clients})"
            )


@settings
class SimulationConfig:
    """All settings of a simulation. Without an attack the federation is honest.

    Attributes:
        seed: of every random choice in the run.
        data, model, federation: see the classes.
        training: what an honest client does in a round. The optimizer starts afresh each time.
        aggregation: a table with a ``kind`` of :data:`fedmend.aggregation.AGGREGATORS`, or ``package.module:factory``,
            and the rule's settings.
        guard: the settings of a guard, which decides each round (see :class:`fedmend.guard.GuardPolicy`, which checks
            them); None: every candidate is released.
        attack: any number of independent attacks.

    Raises:
        ConfigError: a setting is unknown, out of range, or inconsistent with another.
    """

    seed: Natural = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: LocalTraining = field(default_factory=LocalTraining)
    federation: FederationConfig = field(default_factory=FederationConfig)
    aggregation: Table = field(default_factory=lambda: FrozenTable({"kind": "fedavg"}))
    guard: Table | None = None
    attack: tuple[AttackConfig, ...] = ()

    def __post_init__(self) -> None:
        federation = self.federation
        if self.model.start_round >= federation.rounds:
            raise ConfigError(
                f"[federation] rounds ({federation.rounds}) is the number of the last round and must be above "
                f"[model] start_round ({self.model.start_round})"
            )
        check_table(self.aggregation, "[aggregation]", aggregator_from_table)
        self._check_attacks()

    def _check_attacks(self) -> None:
        federation = self.federation
        for attack in self.attack:
            if attack.lying_clients > federation.clients:
                raise ConfigError(
                    f"[[attack]] lying_clients ({attack.lying_clients}) is more than [federation] clients "
                    f"({federation.clients})"
                )
            if attack.first_round > federation.rounds:
                raise ConfigError(
                    f"[[attack]] first_round ({attack.first_round}) is after the last round ({federation.rounds})"
                )
        constant = sum(attack.attackers for attack in self.attack if attack.every_round)
        if constant > federation.clients_per_round:
            raise ConfigError(
                f"[[attack]] attackers ({constant}) that take part in every round are more than [federation] "
                f"clients_per_round ({federation.clients_per_round})"
            )
        everyone = sum(attack.attackers for attack in self.attack)
        if everyone > federation.clients:
            raise ConfigError(
                f"[[attack]] attackers ({everyone}) are more than [federation] clients ({federation.clients})"
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings as nested dicts and lists, which belong to the caller."""
        return plain(asdict(self))
