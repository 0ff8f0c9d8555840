"""Compares the settings of a run with those to resume it with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedmend.errors import ConfigError
from fedmend.federation.config import SimulationConfig

_SHOWN = 4


def require_same(old: SimulationConfig, new: SimulationConfig, path: Path) -> None:
    """Refuse other settings than a run's; only the number of rounds may be raised.

    Args:
        old: the run's.
        new: those to resume with.
        path: the run's folder, for the message.

    Raises:
        ConfigError: it names what differs.
    """
    before, after = (_flat(json.loads(json.dumps(config.to_dict()))) for config in (old, new))
    changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    changed = sorted(key for key in changed if key != "federation.rounds")
    if changed:
        first = changed[:_SHOWN]
        shown = ", ".join(f"{key} was {before.get(key)!r}, now {after.get(key)!r}" for key in first)
        shown += f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise ConfigError(f"can't resume {path} with other settings: {shown}; choose another folder")
    if new.federation.rounds < old.federation.rounds:
        raise ConfigError(
            f"can't resume {path} with fewer rounds ({new.federation.rounds}) than before ({old.federation.rounds})"
        )


def _flat(value: Any, name: str = "") -> dict[str, object]:
    """Nested settings by dotted names; those of the second attack start with ``attack.2.``."""
    if isinstance(value, dict) and value:
        named = list(value.items())
    elif isinstance(value, list) and all(isinstance(each, dict) for each in value):
        named = [(str(number), each) for number, each in enumerate(value, 1)]
    else:
        return {name: value}
    return {
        key: found
        for part, each in named
        for key, found in _flat(each, f"{name}.{part}" if name else part).items()
    }
