"""Backdoor attacks on a federation: poisoned training and manipulated updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedmend.attacks.attack import Attack
from fedmend.attacks.lying import FalseTrigger, Lies
from fedmend.attacks.poisoning import Poisoning
from fedmend.attacks.projection import Project
from fedmend.attacks.replacement import Amplify
from fedmend.attacks.updates import UpdateContext, UpdateStep
from fedmend.errors import ConfigError
from fedmend.kinds import from_table

__all__ = [
    "UPDATE_STEPS",
    "Amplify",
    "Attack",
    "FalseTrigger",
    "Lies",
    "Poisoning",
    "Project",
    "UpdateContext",
    "UpdateStep",
    "update_step_from_table",
]

UPDATE_STEPS: dict[str, Callable[..., UpdateStep]] = {
    "amplify": Amplify,
    "project": Project,
}
"""Update steps by their names in TOML files."""


def update_step_from_table(table: Mapping[str, Any]) -> UpdateStep:
    """The update step that a table describes.

    Args:
        table: ``kind``, a name in ``UPDATE_STEPS`` or your own ``package.module:factory``, and its settings.

    Raises:
        ConfigError: the kind is unknown, settings are refused, or the step isn't callable.
    """
    step: UpdateStep = from_table(table, UPDATE_STEPS, "update step")
    if not callable(step):
        raise ConfigError(
            f"the update step {table['kind']} must be callable as step(delta, context); got a {type(step).__name__}"
        )
    return step
