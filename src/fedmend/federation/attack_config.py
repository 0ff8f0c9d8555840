"""The settings of an attack: one ``[[attack]]`` of a simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, is_dataclass
from typing import Any, Literal, get_type_hints

from fedmend.attacks import (
    ATTACK_TRIGGERS,
    POISONERS,
    attack_method_from_table,
    collusion_from_table,
    update_step_from_table,
)
from fedmend.checked_settings import (
    Count,
    Flag,
    Natural,
    PositiveFraction,
    names_of,
    require,
    settings,
    unknown,
)
from fedmend.errors import ConfigError
from fedmend.federation.frozen_table import FrozenTable, Table
from fedmend.goals import goal_from_table
from fedmend.kinds import find_kind
from fedmend.local_training import LocalTraining
from fedmend.user_code import is_own


@settings
class AttackConfig:
    """Who attacks, with what, and when.

    Attributes:
        attackers: number of clients that attack together.
        chosen: which clients: "first", the lowest free numbers; "random", drawn from the run's seed; or
            "most-source-images", the lowest free numbers, each of which swaps its data with the client that holds most
            of the images that the goal attacks.
        first_round: the round of the first attack; the attackers are honest before it.
        last_round: the round of the last attack; the attackers are honest after it. None: the attack doesn't end.
        every_round: while the attack lasts, the attackers take part in every round, not only when sampled.
        poisoned_fraction: of the images that the goal attacks, the fraction in (0, 1] that gets a stamped copy.
        distributed: each attacker stamps only one part of the trigger (DBA, contrastive paper, 3.4).
        keep_predictions: label the attacker's clean images with the global model's predictions, so that amplification
            doesn't amplify the bias of its data.
        pruning_aware: train without the half of the last convolution's channels that clean images use least, so that
            pruning can't reach the backdoor (federated-pruning paper, 5.5.1).
        lying_clients: number of clients that lie in a repair by votes: the attackers, then their accomplices.
        trigger, goal: tables with a ``kind`` of ``fedmend.attacks.ATTACK_TRIGGERS`` and ``fedmend.goals.GOALS``, or
            ``package.module:factory``, and settings.
        update: the steps applied to the trained update, in order: tables with a ``kind`` of
            ``fedmend.attacks.UPDATE_STEPS``, or ``package.module:factory``.
        poisoning: what attackers add to their images: a table with a ``kind`` of ``fedmend.attacks.POISONERS``, or
            ``package.module:factory``.
        method: how they train: a table with a ``kind`` of ``fedmend.attacks.ATTACK_METHODS``, or
            ``package.module:factory``; None: on clean and poisoned images together.
        collusion: what the attackers of a round make of their updates together: a table with a ``kind`` of
            ``fedmend.attacks.COLLUSIONS``, or ``package.module:factory``; None: each sends its own.
        training: the attackers' local training (None: like honest clients).
    """

    attackers: Count = 1
    chosen: Literal["first", "random", "most-source-images"] = "first"
    first_round: Count = 1
    last_round: Count | None = None
    every_round: Flag = True
    poisoned_fraction: PositiveFraction = 0.5
    distributed: Flag = False
    keep_predictions: Flag = False
    pruning_aware: Flag = False
    lying_clients: Natural = 0
    trigger: Table = field(default_factory=lambda: FrozenTable({"kind": "atoms", "shape": "+"}))
    goal: Table = field(default_factory=lambda: FrozenTable({"kind": "all-to-one", "target": 0}))
    update: tuple[Table, ...] = ()
    poisoning: Table = field(default_factory=lambda: FrozenTable({"kind": "copies"}))
    method: Table | None = None
    collusion: Table | None = None
    training: LocalTraining | None = None

    def __post_init__(self) -> None:
        """Check what needs no data; the trigger's settings are checked once the images' shape is known."""
        if self.last_round is not None and self.last_round < self.first_round:
            raise ConfigError(
                f"[[attack]] last_round ({self.last_round}) is before first_round ({self.first_round}); leave it out "
                "for an attack that doesn't end"
            )
        check_table(self.trigger, "[attack.trigger]", _check_trigger)
        check_table(self.goal, "[attack.goal]", goal_from_table)
        check_table(self.poisoning, "[attack.poisoning]", _check_poisoning)
        if self.method is not None:
            check_table(self.method, "[attack.method]", attack_method_from_table)
        if self.collusion is not None:
            check_table(self.collusion, "[attack.collusion]", collusion_from_table)
        for number, step in enumerate(self.update, 1):
            which = f" number {number}" if len(self.update) > 1 else ""
            check_table(step, f"[[attack.update]]{which}", update_step_from_table)

    def lasts(self, round_number: int) -> bool:
        """Whether the attack goes on in a round."""
        return self.first_round <= round_number <= (self.last_round or round_number)


def _check_trigger(table: Table) -> None:
    _check_values(table, find_kind(table["kind"], ATTACK_TRIGGERS, "trigger"), ("image_shape",))


def _check_poisoning(table: Table) -> None:
    given = ("trigger", "goal", "fraction", "model")
    _check_values(table, find_kind(table["kind"], POISONERS, "poisoning"), given)


def _check_values(table: Table, kind: Callable[..., Any], given: tuple[str, ...]) -> None:
    """Check the names of a kind's settings, and each value by itself, apart from those that fedmend gives it."""
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return
    for name, value in table.items():
        if name != "kind" and name not in given:
            if name not in names_of(kind):
                raise ConfigError(unknown(name, name, kind))
            require(value, get_type_hints(kind, include_extras=True)[name], name)


def check_table(table: Table, heading: str, make: Callable[[Table], object]) -> None:
    """Check a table without running the user's own code, which a reader of settings may lack."""
    kind = table.get("kind")
    try:
        if not isinstance(kind, str):
            raise ConfigError(f"expected a kind; got {kind!r}")
        if not is_own(kind):
            make(table)
    except ConfigError as error:
        raise ConfigError(f"{heading} {error}") from error
