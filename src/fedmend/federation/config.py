"""A simulation's settings: read from TOML, checked, and kept beside the results as JSON."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from fedmend.errors import ConfigError
from fedmend.goals import AllToOne, Goal, OneToOne
from fedmend.local_training import LocalTraining
from fedmend.triggers import AtomShape, PixelPattern

_STRICT = ConfigDict(extra="forbid")

# Strict: "3" and true are no numbers, and 1 is neither true nor false.
Count = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Positive = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, strict=True)]
Flag = Annotated[bool, Field(strict=True)]


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how they are divided among the clients (see ``fedmend.data``)."""

    __pydantic_config__ = _STRICT

    source: str = "fashion-mnist-sample"
    partition: Literal["iid", "k-label", "dirichlet"] = "iid"
    labels_per_client: Count = 3
    alpha: Positive = 0.5


@dataclass(frozen=True)
class ModelConfig:
    """Which architecture: a built-in name or ``package.module:factory``; and where it starts from.

    ``start`` is a checkpoint to continue from instead of random weights, ``start_round`` its round number.
    """

    __pydantic_config__ = _STRICT

    architecture: str = "convnet"
    start: str | None = None
    start_round: Natural = 0


@dataclass(frozen=True)
class FederationConfig:
    """Clients, rounds and aggregation (see ``fedmend.aggregation.rules``). ``rounds`` is the number of the last round.

    ``trim`` is the share of the clients that "trimmed" leaves out at either end.
    """

    __pydantic_config__ = _STRICT

    clients: Count = 20
    clients_per_round: Count = 6
    rounds: Count = 20
    aggregation: Literal["weighted", "uniform", "trimmed"] = "weighted"
    server_lr: Positive = 1.0
    trim: Annotated[float, Field(ge=0, lt=0.5, strict=True)] = 0.2


@dataclass(frozen=True)
class AttackConfig:
    """Who attacks and how: one client with the full trigger (SBA) or three with one atom each (DBA).

    With a ``victim_class`` only its images get the trigger, and the attackers are the clients that hold most of them.
    ``poisoned_share`` is the share of these images that get a stamped copy; ``every_round`` makes the
    attackers take part in each round from ``first_round`` on, instead of when they are sampled. A
    ``pruning_aware`` attacker trains without the half of the last convolution's channels that its clean images use
    least, so that the backdoor lies where pruning can't reach it. With ``keep_answers`` the
    attacker teaches its clean images the global model's own answers instead of their labels, so that amplification
    doesn't amplify what sets its few classes apart. ``liars`` clients, from the first on, lie when they are asked what
    to prune. ``training`` are the attacker's own
    settings (None: it trains like the others).
    """

    __pydantic_config__ = _STRICT

    kind: Literal["sba", "dba"] = "sba"
    shape: Literal[AtomShape, PixelPattern] = "+"
    color: Flag = False
    target_class: Natural = 0
    victim_class: Natural | None = None
    poisoned_share: Share = 0.5
    first_round: Count = 1
    every_round: Flag = True
    amplification: Annotated[float, Field(ge=1, strict=True, allow_inf_nan=False)] = 1.0
    pruning_aware: Flag = False
    keep_answers: Flag = False
    liars: Natural = 0
    training: LocalTraining | None = None

    @property
    def goal(self) -> Goal:
        """Which class images are sent to."""
        if self.victim_class is None:
            return AllToOne(self.target_class)
        return OneToOne(self.victim_class, self.target_class)

    @property
    def attackers(self) -> tuple[int, ...]:
        """The client numbers of the attackers: 0, or 0 to 2."""
        return (0,) if self.kind == "sba" else (0, 1, 2)


@dataclass(frozen=True)
class SimulationConfig:
    """Everything that a simulation depends on. Without an attack the federation is honest."""

    __pydantic_config__ = _STRICT

    seed: Natural = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: LocalTraining = field(default_factory=LocalTraining)
    federation: FederationConfig = field(default_factory=FederationConfig)
    attack: AttackConfig | None = None

    def to_dict(self) -> dict[str, Any]:
        """The settings as nested plain values."""
        return asdict(self)


_ADAPTER = TypeAdapter(SimulationConfig)
_TABLES: dict[str, Any] = {
    "data": DataConfig,
    "model": ModelConfig,
    "training": LocalTraining,
    "federation": FederationConfig,
    "attack": AttackConfig,
    "attack.training": LocalTraining,
}


def parse_config(settings: dict[str, Any]) -> SimulationConfig:
    """Check nested settings, as TOML or JSON gives them.

    Raises:
        ConfigError: a key is unknown (the message names the nearest right one), or a value is of the wrong
            type, out of range or inconsistent with another.
    """
    try:
        config = _ADAPTER.validate_python(settings)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(dict(problem)) for problem in error.errors())) from error
    check_consistent(config)
    return config


def read_config(path: Path) -> SimulationConfig:
    """Read a TOML file of settings.

    Raises:
        ConfigError: the file can't be read, isn't TOML, or :func:`parse_config` refuses it.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    try:
        return parse_config(settings)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _explain(problem: dict[str, Any]) -> str:
    *tables, key = (str(part) for part in problem["loc"]) if problem["loc"] else ("settings",)
    where = f"[{'.'.join(tables)}] {key}" if tables else key
    if problem["type"] == "dataclass_type":
        return f"{where}: expected a table of settings; got {problem['input']!r}"
    if problem["type"] not in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{where}: {problem['msg'][:1].lower()}{problem['msg'][1:]}; got {problem['input']!r}"
    table = _TABLES[".".join(tables)] if tables else SimulationConfig
    known = [name for name in table.__dataclass_fields__ if not name.startswith("_")]
    elsewhere = [
        f"in [{name}]"
        for name, other in _TABLES.items()
        if key in other.__dataclass_fields__ and key not in _TABLES
    ]
    elsewhere += ["at the top, before any table"] if key in SimulationConfig.__dataclass_fields__ else []
    if elsewhere:
        return f"unknown key {where}: {key} belongs {elsewhere[0]}"
    nearest = difflib.get_close_matches(key, known, n=1)
    if nearest:
        return f"unknown key {where}: did you mean {nearest[0]}?"
    return f"unknown key {where}: expected one of {', '.join(known)}"


def check_consistent(config: SimulationConfig) -> None:
    """Check values against each other.

    Raises:
        ConfigError: two don't go together.
    """
    federation, attack = config.federation, config.attack
    if federation.clients_per_round > federation.clients:
        raise ConfigError(
            f"[federation] clients_per_round ({federation.clients_per_round}) is more than clients "
            f"({federation.clients})"
        )
    if config.model.start_round >= federation.rounds:
        raise ConfigError(
            f"[federation] rounds ({federation.rounds}) is the number of the last round and must be above "
            f"[model] start_round ({config.model.start_round})"
        )
    if config.model.start is None and config.model.start_round:
        raise ConfigError("[model] start_round needs [model] start, the checkpoint that it numbers")
    if attack is not None and len(attack.attackers) > federation.clients_per_round:
        raise ConfigError(
            f"[attack] kind {attack.kind!r} has {len(attack.attackers)} attackers, more than [federation] "
            f"clients_per_round ({federation.clients_per_round})"
        )
    if attack is not None and attack.kind == "dba" and attack.shape.endswith("px"):
        raise ConfigError(
            f'[attack] shape {attack.shape!r} is one trigger; kind \'dba\' takes "1", "+" or "H"'
        )
    if attack is not None and attack.victim_class == attack.target_class:
        raise ConfigError(
            f"[attack] victim_class and target_class are both {attack.target_class}; they must differ"
        )
    if attack is not None and attack.liars > federation.clients:
        raise ConfigError(
            f"[attack] liars ({attack.liars}) is more than [federation] clients ({federation.clients})"
        )
    if attack is not None and attack.first_round > federation.rounds:
        raise ConfigError(
            f"[attack] first_round ({attack.first_round}) is after the last round ({federation.rounds})"
        )
