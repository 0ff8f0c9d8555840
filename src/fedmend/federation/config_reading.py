"""Reads a simulation's settings from TOML or JSON, and checks them; errors name the table where a key belongs."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from fedmend.aggregation import AGGREGATORS
from fedmend.attacks import ATTACK_METHODS, ATTACK_TRIGGERS, COLLUSIONS, POISONERS, UPDATE_STEPS
from fedmend.checked_settings import explain, names_of, shown
from fedmend.errors import ConfigError
from fedmend.federation.attack_config import AttackConfig
from fedmend.federation.changes import changed
from fedmend.federation.config import DataConfig, FederationConfig, ModelConfig, SimulationConfig
from fedmend.goals import GOALS
from fedmend.local_training import LocalTraining

Settings = TypeVar("Settings")

_DEEPEST = 20

_ADAPTER = TypeAdapter(SimulationConfig)
_ATTACKS = TypeAdapter(tuple[AttackConfig, ...])
_CLASSES: dict[str, type] = {
    "data": DataConfig,
    "model": ModelConfig,
    "training": LocalTraining,
    "federation": FederationConfig,
    "attack": AttackConfig,
    "attack.training": LocalTraining,
}
_KINDS: dict[str, Mapping[str, Callable[..., Any]]] = {
    "aggregation": AGGREGATORS,
    "attack.trigger": ATTACK_TRIGGERS,
    "attack.goal": GOALS,
    "attack.update": UPDATE_STEPS,
    "attack.poisoning": POISONERS,
    "attack.method": ATTACK_METHODS,
    "attack.collusion": COLLUSIONS,
}
_HEADINGS = {"attack": "[[attack]]", "attack.update": "[[attack.update]]"}


def parse_config(tables: dict[str, Any]) -> SimulationConfig:
    """Check nested settings, as TOML or JSON gives them.

    Raises:
        ConfigError: a key is unknown (the message names the closest known key, or the table where it belongs), or a
            value is of the wrong type, out of range or inconsistent with another.
    """
    _require_shallow(tables)
    try:
        return _ADAPTER.validate_python(tables)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(dict(problem)) for problem in error.errors())) from error


def parse_attacks(tables: Any) -> tuple[AttackConfig, ...]:
    """Check the settings of attacks only, as JSON gives them.

    Raises:
        ConfigError: see :func:`parse_config`.
    """
    _require_shallow(tables)
    try:
        return _ATTACKS.validate_python(tables)
    except ValidationError as error:
        problems = [{**problem, "loc": ("attack", *problem["loc"])} for problem in error.errors()]
        raise ConfigError("; ".join(_explain(problem) for problem in problems)) from error


def read_config(path: Path | str, changes: Sequence[str] = ()) -> SimulationConfig:
    """Read a file of settings: TOML, or JSON if its name ends in .json, such as the ``config.json`` of a run.

    A run keeps its attacks in ``attacker/attacks.json``. They belong to the settings, if they are there.

    Args:
        path: the file.
        changes: settings to replace, such as ``"training.lr=0.01"`` (see :func:`fedmend.federation.changed`).

    Raises:
        ConfigError: the file can't be read, isn't TOML or JSON, or :func:`parse_config` refuses it.
    """
    path = Path(path)
    if path.suffix == ".json":
        tables = read_json(path, _tables)
        hidden = path.parent / "attacker" / "attacks.json"
        if "attack" not in tables and hidden.exists():
            tables["attack"] = read_json(hidden, _as_it_is)
    else:
        tables = _read_toml(path)
    if changes:
        tables = changed(tables, changes)
    try:
        return parse_config(tables)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is not valid TOML: it is nested too deeply") from error
    except ValueError as error:  # also of Python's: text that isn't UTF-8, an integer of thousands of digits
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _as_it_is(value: Any) -> Any:
    return value


def _tables(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"expected an object of settings; got {shown(value)}")
    return value


def _require_shallow(tables: Any) -> None:
    """Refuse settings nested so deeply that checking them would exhaust Python's stack."""
    level, depth = [tables], 0
    while level:
        if depth > _DEEPEST:
            raise ConfigError(f"the settings are nested more than {_DEEPEST} levels deep")
        inner = [
            each.values() if isinstance(each, dict) else each
            for each in level
            if isinstance(each, dict | list)
        ]
        level, depth = [value for values in inner for value in values], depth + 1


def read_json(file: Path, parse: Callable[[Any], Settings]) -> Settings:
    """Read a run's settings, which fedmend wrote.

    Args:
        file: JSON.
        parse: :func:`parse_config` or :func:`parse_attacks`.

    Raises:
        FileNotFoundError: there is no such file. ConfigError: it can't be read or was damaged.
    """
    try:
        return parse(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"can't read {file}: {error.strerror}") from error
    except RecursionError as error:
        raise ConfigError(f"{file} is not valid JSON: it is nested too deeply") from error
    except ValueError as error:
        raise ConfigError(f"{file} is not valid JSON: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def _explain(problem: dict[str, Any]) -> str:
    """A message for one of pydantic's problems, with the table's heading."""
    loc = problem["loc"]
    places = [
        index for index, part in enumerate(loc) if isinstance(part, int) and index
    ]  # among several tables
    *tables, key = [str(part) for index, part in enumerate(loc) if index not in places] or ["settings"]
    name = ".".join(tables)
    where = f"{_heading(name)} {key}" if tables else key
    if problem["type"] == "dict_type":
        return f"{where}: expected a table of settings; got {shown(problem['input'])}"
    if problem["type"] == "tuple_type" and isinstance(problem["input"], dict):
        path = f"{name}.{key}" if tables else key
        return f"{where}: expected an array of tables, [[{path}]]; got the single table [{path}]"
    homes = _homes_of(key) if problem["type"] == "unexpected_keyword_argument" else []
    if homes:
        return f"unknown key {where}: {key} belongs {homes[0]}"
    return explain(problem, _CLASSES.get(name, SimulationConfig), where)


def _heading(name: str) -> str:
    return _HEADINGS.get(name, f"[{name}]")


def _homes_of(key: str) -> list[str]:
    """Where a key is a setting, as phrases."""
    tables = {name.rpartition(".")[2] for name in (*_CLASSES, *_KINDS)}
    homes = [
        f"in {_heading(name)}"
        for name, table in _CLASSES.items()
        if key in names_of(table) and key not in tables
    ]
    if key in names_of(SimulationConfig):
        homes.append("at the top, before any table" if key not in tables else "at the top, as a table")
    homes += [
        f"in {_heading(name)}"
        for name, kinds in _KINDS.items()
        if any(isinstance(kind, type) and key in names_of(kind) for kind in kinds.values())
    ]
    return homes
