"""What a comparison sweeps over: the table ``[compare]`` beside a simulation's settings."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmend.checked_settings import Flag, Fraction, Natural, names_of, require, settings, shown, unknown
from fedmend.comparison.variant_merging import nested
from fedmend.errors import ConfigError

TABLE = "compare"
_RESERVED = ("seeds", "settings", "limits", "honest", "columns")
COLUMNS = (
    *("seed", "ended", "accuracy", "honest_accuracy", "accuracy_lost", "released_asr", "final_asr", "rounds"),
    *("decisions", "votes", "seconds", "error", "folder", "round", "round_accuracy", "asr", "candidate_asr"),
    "decision",
)
"""What the tables have beside a column for each axis."""


@settings
class Limits:
    """What counts as a miss.

    Attributes:
        released_asr: the largest attack success rate (ASR) of a released model that is none.
        accuracy_lost: the largest accuracy lost that is none, against the same federation without an attack and
            without a defence.
    """

    released_asr: Fraction = 0.05
    accuracy_lost: Fraction = 0.01


@dataclass(frozen=True)
class Axis:
    """One thing that differs between the cells of a comparison.

    Attributes:
        name: such as "attack", or a setting's dotted name.
        variants: what it can be, by its label: settings that replace those of the base.
    """

    name: str
    variants: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Plan:
    """A comparison.

    Attributes:
        base: a simulation's settings without its seed, as TOML has them.
        axes: in the order of the file; every combination of their variants is a cell.
        seeds: each cell is run with each of them.
        limits: what counts as a miss.
        honest: whether each federation also runs without an attack and without a defence, so that the accuracy lost
            is known.
        columns: the axis whose variants are the columns of the page's heat maps.
    """

    base: Mapping[str, Any]
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...] = (0,)
    limits: Limits = field(default_factory=Limits)
    honest: bool = True
    columns: str | None = None


def read_plan(path: Path | str) -> Plan:
    """Read a TOML file of a simulation with a table ``[compare]``.

    Raises:
        ConfigError: the file can't be read or isn't TOML, or :func:`plan_from_tables` refuses it.
    """
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    try:
        return plan_from_tables(tables)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def plan_from_tables(tables: Mapping[str, Any]) -> Plan:
    """Check a simulation's settings with their table ``compare``.

    The simulations themselves are checked when the cells are made (see :func:`fedmend.comparison.cells_of`).

    Raises:
        ConfigError: there is no table ``compare``, a key in it is unknown, or a list or table in it is empty.
    """
    given = tables.get(TABLE)
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"expected a table [compare] with what to sweep over, such as seeds = [0, 1]; got {shown(given)}"
        )
    base = {key: value for key, value in tables.items() if key not in (TABLE, "seed")}
    axes = [*_named(given), *_swept(given.get("settings", {}))]
    _require_own_names([axis.name for axis in axes])
    columns = given.get("columns", "defence" if "defence" in given else None)
    if columns is not None and columns not in [axis.name for axis in axes]:
        known = ", ".join(axis.name for axis in axes) or "none"
        raise ConfigError(
            f"[compare] columns: expected the name of an axis, one of {known}; got {shown(columns)}"
        )
    honest = given.get("honest", True)
    require(honest, Flag, "[compare] honest")
    return Plan(base, tuple(axes), _seeds(given, tables), _limits(given.get("limits", {})), honest, columns)


def _seeds(given: Mapping[str, Any], tables: Mapping[str, Any]) -> tuple[int, ...]:
    if "seeds" in given and "seed" in tables:
        raise ConfigError("seed and [compare] seeds are both given; keep the seeds")
    seeds = given.get("seeds", [tables.get("seed", 0)])
    if not isinstance(seeds, list) or not seeds:
        raise ConfigError(f"[compare] seeds: expected a list of at least one number; got {shown(seeds)}")
    for seed in seeds:
        require(seed, Natural, "[compare] seeds")
    _require_different([str(seed) for seed in seeds], "seeds")
    return tuple(seeds)


def _limits(given: Any) -> Limits:
    if not isinstance(given, Mapping):
        raise ConfigError(f"[compare.limits]: expected a table; got {shown(given)}")
    for key in given:
        if key not in names_of(Limits):
            raise ConfigError(unknown(key, f"[compare.limits] {key}", Limits))
    return Limits(**given)


def _named(given: Mapping[str, Any]) -> Iterator[Axis]:
    """The axes of named variants: ``[compare.AXIS.VARIANT]``."""
    for name, variants in given.items():
        if name in _RESERVED:
            continue
        near = difflib.get_close_matches(name, _RESERVED, n=1, cutoff=0.8)
        if near or not isinstance(variants, Mapping):
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(_RESERVED)}"
            raise ConfigError(
                f"unknown key [compare] {name}: {hint} Variants have a table each, such as [compare.attack.dba]"
            )
        if not variants:
            raise ConfigError(f"[compare.{name}]: expected at least one variant; got none")
        for label, changes in variants.items():
            if not isinstance(changes, Mapping):
                raise ConfigError(
                    f"[compare.{name}] {label}: expected a table, the settings of {label}; got {shown(changes)}. "
                    "Lists of values belong in [compare.settings]"
                )
            if "seed" in changes:
                raise ConfigError(
                    f"[compare.{name}.{label}] seed: all variants run with the same seeds; give them as [compare] seeds"
                )
        yield Axis(name, dict(variants))


def _swept(given: Any) -> Iterator[Axis]:
    """The axes of single settings: lists in ``[compare.settings]``, by dotted names."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"[compare.settings]: expected a table of lists; got {shown(given)}")
    for name, values in _lists(given):
        if not values:
            raise ConfigError(f"[compare.settings] {name}: expected at least one value; got an empty list")
        labels = [_label(value) for value in values]
        _require_different(labels, f"settings.{name}")
        yield Axis(name, {label: nested(name, value) for label, value in zip(labels, values, strict=True)})


def _lists(given: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, list[Any]]]:
    for key, value in given.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from _lists(value, name)
        elif isinstance(value, list):
            yield name, value
        else:
            raise ConfigError(f"[compare.settings] {name}: expected a list of values; got {shown(value)}")


def _label(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key} {_label(each)}" if key != "kind" else _label(each) for key, each in value.items()
        )
    if isinstance(value, list):
        return ", ".join(map(_label, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _require_own_names(axes: list[str]) -> None:
    _require_different(axes, "axes")
    taken = next((name for name in axes if name in COLUMNS), None)
    if taken is not None:
        raise ConfigError(
            f"[compare.{taken}]: {taken} is a column of the results; choose another name for the axis, such as "
            f"{taken}-variant"
        )


def _require_different(labels: list[str], name: str) -> None:
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ConfigError(f"[compare] {name}: expected different values; got {shown(twice)} twice")
