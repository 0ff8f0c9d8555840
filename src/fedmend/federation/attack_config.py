"""The settings of an attack: one ``[[attack]]`` of a simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Literal

from fedmend.attacks import update_step_from_table
from fedmend.checked_settings import Count, Flag, Natural, PositiveFraction, settings
from fedmend.errors import ConfigError
from fedmend.federation.frozen_table import FrozenTable, Table
from fedmend.goals import goal_from_table
from fedmend.kinds import find_kind
from fedmend.local_training import LocalTraining
from fedmend.triggers import TRIGGERS
from fedmend.user_code import is_own


@settings
class AttackConfig:
    """Who attacks, with what, and when.

    Attributes:
        attackers: how many clients attack together.
        chosen: which clients: "first", the lowest free numbers; "random", drawn from the run's seed; or
            "most-source-images", the lowest free numbers, each of which swaps its data with the client that holds most
            of the images that the goal attacks.
        first_round: the attackers are honest before it.
        every_round: from then on they take part in each round, not only when they are sampled.
        poisoned_fraction: of the images that the goal attacks, the fraction in (0, 1] that gets a stamped copy.
        distributed: each attacker stamps one part of the trigger only (DBA, contrastive paper, 3.4).
        keep_predictions: the attacker's clean images are labelled with the global model's own predictions, so that
            amplification doesn't amplify what sets its data apart.
        pruning_aware: it trains without the half of the last convolution's channels that its clean images use least,
            so that pruning can't reach the backdoor (federated-pruning paper, 5.5.1).
        lying_clients: how many clients lie when they are asked what to prune: the attackers, then their friends.
        trigger, goal: tables with a ``kind`` of ``fedmend.triggers.TRIGGERS`` and ``fedmend.goals.GOALS``, or
            ``package.module:factory``, and settings.
        update: what is done to the trained update, in this order: tables with a ``kind`` of
            ``fedmend.attacks.UPDATE_STEPS``, or ``package.module:factory``.
        training: the attackers' own training (None: they train like the others).
    """

    attackers: Count = 1
    chosen: Literal["first", "random", "most-source-images"] = "first"
    first_round: Count = 1
    every_round: Flag = True
    poisoned_fraction: PositiveFraction = 0.5
    distributed: Flag = False
    keep_predictions: Flag = False
    pruning_aware: Flag = False
    lying_clients: Natural = 0
    trigger: Table = field(default_factory=lambda: FrozenTable({"kind": "atoms", "shape": "+"}))
    goal: Table = field(default_factory=lambda: FrozenTable({"kind": "all-to-one", "target": 0}))
    update: tuple[Table, ...] = ()
    training: LocalTraining | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without the data: the trigger's settings wait for the images' shape."""
        check_table(
            self.trigger, "[attack.trigger]", lambda table: find_kind(table["kind"], TRIGGERS, "trigger")
        )
        check_table(self.goal, "[attack.goal]", goal_from_table)
        for step in self.update:
            check_table(step, "[[attack.update]]", update_step_from_table)


def check_table(table: Table, heading: str, make: Callable[[Table], object]) -> None:
    """The user's own code is not run here: who reads settings need not have it."""
    kind = table.get("kind")
    try:
        if not isinstance(kind, str):
            raise ConfigError(f"expected a kind; got {kind!r}")
        if not is_own(kind):
            make(table)
    except ConfigError as error:
        raise ConfigError(f"{heading} {error}") from error
