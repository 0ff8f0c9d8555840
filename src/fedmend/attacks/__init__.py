"""Backdoor attacks on a federation: poisoned training and manipulated updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedmend.attacks.a_little_is_enough import ALittleIsEnough
from fedmend.attacks.alternating import Alternating
from fedmend.attacks.attack import Attack
from fedmend.attacks.clean_label import CleanLabel
from fedmend.attacks.collusion import Collusion, CollusionContext
from fedmend.attacks.constrain_and_scale import ConstrainAndScale
from fedmend.attacks.edge_case import EdgeCase
from fedmend.attacks.fang_krum import FangKrum
from fedmend.attacks.fang_trimmed_mean import FangTrimmedMean
from fedmend.attacks.lying import FalseTrigger, Lies
from fedmend.attacks.methods import AttackData, AttackMethod
from fedmend.attacks.natural_images import HeldOut
from fedmend.attacks.neurotoxin import Neurotoxin
from fedmend.attacks.poisoning import Poisoner, Poisoning
from fedmend.attacks.projection import Project
from fedmend.attacks.replacement import Amplify
from fedmend.attacks.semantic import Semantic
from fedmend.attacks.slow import Slow
from fedmend.attacks.stealthy import Stealthy
from fedmend.attacks.updates import UpdateContext, UpdateStep
from fedmend.errors import ConfigError
from fedmend.goals import Goal
from fedmend.kinds import from_table
from fedmend.triggers import TRIGGERS, Trigger

__all__ = [
    "ATTACK_METHODS",
    "ATTACK_TRIGGERS",
    "COLLUSIONS",
    "POISONERS",
    "UPDATE_STEPS",
    "ALittleIsEnough",
    "Alternating",
    "Amplify",
    "Attack",
    "AttackData",
    "AttackMethod",
    "CleanLabel",
    "Collusion",
    "CollusionContext",
    "ConstrainAndScale",
    "EdgeCase",
    "FalseTrigger",
    "FangKrum",
    "FangTrimmedMean",
    "HeldOut",
    "Lies",
    "Neurotoxin",
    "Poisoner",
    "Poisoning",
    "Project",
    "Semantic",
    "Slow",
    "Stealthy",
    "UpdateContext",
    "UpdateStep",
    "attack_method_from_table",
    "collusion_from_table",
    "poisoner_from_table",
    "update_step_from_table",
]

UPDATE_STEPS: dict[str, Callable[..., UpdateStep]] = {
    "amplify": Amplify,
    "project": Project,
}
"""Update steps by their names in TOML files."""

ATTACK_METHODS: dict[str, Callable[..., AttackMethod]] = {
    "constrain-and-scale": ConstrainAndScale,
    "stealthy": Stealthy,
    "alternating": Alternating,
    "neurotoxin": Neurotoxin,
    "slow": Slow,
}
"""How attackers train, by the names in TOML files."""

COLLUSIONS: dict[str, Callable[..., Collusion]] = {
    "a-little-is-enough": ALittleIsEnough,
    "fang-krum": FangKrum,
    "fang-trimmed-mean": FangTrimmedMean,
    "fang-median": FangTrimmedMean,
}
"""What the attackers of a round make of their updates together, by the names in TOML files."""

POISONERS: dict[str, Callable[..., Poisoner]] = {
    "copies": Poisoning,
    "clean-label": CleanLabel,
}
"""What attackers add to their images, by the names in TOML files."""

ATTACK_TRIGGERS: dict[str, Callable[..., Trigger]] = {
    **TRIGGERS,
    "edge-case": EdgeCase,
    "semantic": Semantic,
}
"""Triggers by the names in TOML files, with those that need images of a data set."""


def update_step_from_table(table: Mapping[str, Any]) -> UpdateStep:
    """The update step that a table describes.

    Args:
        table: ``kind``, a name in ``UPDATE_STEPS`` or your own ``package.module:factory``, and its settings.

    Raises:
        ConfigError: the kind is unknown, settings are refused, or the step isn't callable.
    """
    step: UpdateStep = from_table(table, UPDATE_STEPS, "update step")
    _require_callable(step, table, "update step", "step(delta, context)")
    return step


def attack_method_from_table(table: Mapping[str, Any]) -> AttackMethod:
    """The attack method that a table describes; see :func:`update_step_from_table`, with ``ATTACK_METHODS``."""
    method: AttackMethod = from_table(table, ATTACK_METHODS, "attack method")
    _require_callable(method, table, "attack method", "method(model, data, training, seed)")
    return method


def collusion_from_table(table: Mapping[str, Any]) -> Collusion:
    """The collusion that a table describes; see :func:`update_step_from_table`, with ``COLLUSIONS``."""
    collusion: Collusion = from_table(table, COLLUSIONS, "collusion")
    _require_callable(collusion, table, "collusion", "collusion(own, context)")
    return collusion


def poisoner_from_table(table: Mapping[str, Any], trigger: Trigger, goal: Goal, fraction: float) -> Poisoner:
    """The poisoning that a table describes; see :func:`update_step_from_table`, with ``POISONERS``.

    The kind's factory gets trigger, goal and fraction by keyword.
    """
    poisoner: Poisoner = from_table(
        table, POISONERS, "poisoning", trigger=trigger, goal=goal, fraction=fraction
    )
    _require_callable(poisoner, table, "poisoning", "poisoning(images, labels, generator)")
    return poisoner


def _require_callable(made: object, table: Mapping[str, Any], what: str, called: str) -> None:
    if not callable(made):
        raise ConfigError(
            f"the {what} {table['kind']} must be callable as {called}; got a {type(made).__name__}"
        )
