"""Settings with a variant's in place of their own, such as another attack or a guard."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from fedmend.checked_settings import shown
from fedmend.errors import ConfigError

REMOVED, OPTIONAL = "none", ("guard", "votes")
"""``guard = "none"`` removes the base's table ``[guard]``."""


def merged(tables: Mapping[str, Any], variant: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """A copy of nested settings with a variant's in place of their own.

    A table is merged with the one that is there, unless it names a ``kind``: another kind has other settings. Any other
    value replaces the one that is there. An array of tables, such as ``[[attack]]``, is replaced by an array, and
    changed by a table whose keys are numbers from 1. ``guard = "none"`` and ``votes = "none"`` remove those tables.

    Args:
        tables: as TOML gives them; not changed.
        variant: the same, of any depth.
        path: where both are, in messages.

    Raises:
        ConfigError: the variant has a number for an array of tables that has fewer.
    """
    result = deepcopy(dict(tables))
    for key, value in variant.items():
        here, where = result.get(key), f"{path}.{key}" if path else key
        if not isinstance(value, Mapping):
            if value == REMOVED and where in OPTIONAL:
                result.pop(key, None)
            else:
                result[key] = deepcopy(value)
        elif isinstance(here, list):
            result[key] = _numbered(here, value, where)
        elif "kind" in value:
            result[key] = deepcopy(dict(value))
        else:
            result[key] = merged(here if isinstance(here, Mapping) else {}, value, where)
    return result


def nested(name: str, value: Any) -> dict[str, Any]:
    """A variant of a single setting, by its dotted name: ``training.lr`` and 0.1 give ``{"training": {"lr": 0.1}}``."""
    for part in reversed(name.split(".")):
        value = {part: value}
    result: dict[str, Any] = value
    return result


def _numbered(here: list[Any], changes: Mapping[str, Any], path: str) -> list[Any]:
    result = list(here)
    for number, value in changes.items():
        if not number.isdecimal() or not 1 <= int(number) <= len(here):
            there = f"numbers from 1 to {len(here)}" if here else "no number, since it is empty"
            raise ConfigError(f"{path}: expected {there}; got {shown(number)}")
        place = int(number) - 1
        whole = isinstance(value, Mapping) and isinstance(here[place], Mapping)
        result[place] = merged(here[place], value, f"{path}.{number}") if whole else deepcopy(value)
    return result
