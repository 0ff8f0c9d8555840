"""Changes of single settings, written as ``training.lr=0.01``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from fedmend.checked_settings import shown
from fedmend.errors import ConfigError


def changed(tables: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """A copy of nested settings with some of them replaced.

    Args:
        tables: as TOML or JSON gives them; not changed.
        changes: ``name=value`` each. A name is the path of a setting, with dots; those of the second ``[[attack]]``
            start with ``attack.2``. A value is one of TOML, or else text: ``federation.rounds=3``,
            ``data.partition=iid``, ``aggregation={kind = "trimmed-mean", trim = 0.1}``. A table that isn't there yet is
            made.

    Raises:
        ConfigError: a change isn't written so, or its path leads through a value or to an attack that isn't there.
    """
    result = deepcopy(dict(tables))
    for change in changes:
        name, equals, text = change.partition("=")
        parts = [part.strip() for part in name.split(".")]
        if not equals or not all(parts):
            raise ConfigError(
                f"expected a change as name=value, such as training.lr=0.01; got {shown(change)}"
            )
        place: Any = result
        for part in parts[:-1]:
            place = _within(place, part, change)
        if not isinstance(place, dict):
            raise ConfigError(f"{shown(change)}: {parts[-2]} is no table of settings")
        place[parts[-1]] = _value(text)
    return result


def _within(place: Any, part: str, change: str) -> Any:
    if isinstance(place, dict):
        return place.setdefault(part, {})
    if isinstance(place, list):
        if part.isdecimal() and 1 <= int(part) <= len(place):
            return place[int(part) - 1]
        raise ConfigError(
            f"{shown(change)}: expected a number from 1 to {len(place)} in place of {shown(part)}"
        )
    raise ConfigError(f"{shown(change)}: {shown(part)} is looked for in a value that is no table of settings")


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text.strip()}")["value"]
    except (ValueError, RecursionError):
        return text.strip()
