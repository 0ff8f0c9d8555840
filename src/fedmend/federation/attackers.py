"""From the attacks in a simulation's settings to who attacks, with what, and who lies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmend.attacks import (
    ATTACK_TRIGGERS,
    Attack,
    AttackMethod,
    Collusion,
    HeldOut,
    Lies,
    UpdateStep,
    attack_method_from_table,
    collusion_from_table,
    poisoner_from_table,
    update_step_from_table,
)
from fedmend.data import ImageSet
from fedmend.errors import ConfigError, DataError
from fedmend.federation.attack_config import AttackConfig
from fedmend.federation.config import SimulationConfig
from fedmend.federation.run_folder import RunFolder, simulated_config
from fedmend.goals import AllToAll, Goal, attacked, classes_of, goal_from_table, targets_of
from fedmend.seeds import derive_seed, generator, seeded
from fedmend.triggers import Divisible, Trigger, trigger_from_table


@dataclass(frozen=True, eq=False)
class PlannedAttack:
    """One ``[[attack]]`` with what its tables name.

    Attributes:
        config: its settings.
        trigger: the whole trigger.
        goal: which class each image should be sent to.
        steps: applied to the update, in order.
        attackers: the attackers' client numbers.
        lying_clients: the numbers of the clients that lie when asked about the model.
        method: how they train, if in a way of their own.
        collusion: what they make of their updates together, if anything.
    """

    config: AttackConfig
    trigger: Trigger
    goal: Goal
    steps: tuple[UpdateStep, ...]
    attackers: tuple[int, ...]
    lying_clients: tuple[int, ...]
    method: AttackMethod | None = None
    collusion: Collusion | None = None

    def attack_of(self, client_id: int) -> Attack | None:
        """A client's part in this attack; None if it isn't one of the attackers."""
        if client_id not in self.attackers:
            return None
        trigger = self.trigger
        if self.config.distributed:
            parts = _parts(trigger, self.config)
            trigger = parts[self.attackers.index(client_id) % len(parts)]
        if isinstance(trigger, HeldOut):
            trigger = trigger.planted()
        poisoner = poisoner_from_table(
            self.config.poisoning, trigger, self.goal, self.config.poisoned_fraction
        )
        return Attack(
            poisoning=None if self.collusion is not None and self.collusion.untargeted else poisoner,
            update=self.steps,
            training=self.config.training,
            keep_predictions=self.config.keep_predictions,
            pruning_aware=self.config.pruning_aware,
            method=self.method,
            collusion=self.collusion,
        )

    def lies_of(self, client_id: int) -> Lies | None:
        """A client's lies for this attack; None if it doesn't lie."""
        return Lies(self.trigger) if client_id in self.lying_clients else None

    def attacked(self, labels: Tensor) -> Tensor:
        """Which images the goal attacks, by their labels (N,): bool (N,)."""
        return attacked(targets_of(self.goal, labels), labels)

    def require_attacked(self, images: ImageSet, split: str) -> None:
        """Check that the goal attacks at least one image.

        Raises:
            DataError: it attacks none.
        """
        if not bool(self.attacked(images.labels).any()):
            raise DataError(
                f"[attack.goal] {self.config.goal['kind']} attacks none of the {split} images; choose other classes"
            )


def load_attacks(run: RunFolder, images: ImageSet) -> tuple[PlannedAttack, ...]:
    """The attacks of a run, to measure their success. It reads ``attacker/``; a defence must not call it.

    Raises:
        ConfigError: there is no run, its settings were damaged, or they don't fit such images.
    """
    return plan_attacks(simulated_config(run), images)


def plan_attacks(config: SimulationConfig, images: ImageSet) -> tuple[PlannedAttack, ...]:
    """The attacks of a simulation on images of this shape and these classes.

    Raises:
        ConfigError: a trigger, a goal or an update step can't be made or doesn't fit the images.
    """
    planned = []
    _, channels, height, width = images.images.shape
    numbers = zip(config.attack, attackers_of(config), _lying_clients_of(config), strict=True)
    for index, (attack, attackers, lying_clients) in enumerate(numbers):
        seed = derive_seed(config.seed, "attack", index)
        with _under("[attack.trigger]"), seeded(seed):
            trigger = trigger_from_table(attack.trigger, (channels, height, width), ATTACK_TRIGGERS)
        with _under("[attack.goal]"), seeded(seed):
            goal = goal_from_table(attack.goal)
            beyond = [label for label in classes_of(goal) if label >= images.num_classes]
            if beyond:
                raise ConfigError(
                    f"{attack.goal['kind']} names class {beyond[0]}, but the data has classes 0 to "
                    f"{images.num_classes - 1}"
                )
            if isinstance(goal, AllToAll) and goal.num_classes != images.num_classes:
                raise ConfigError(
                    f"num_classes is {goal.num_classes}, but the data has {images.num_classes}; give that number"
                )
        with _under("[[attack.update]]"), seeded(seed):
            steps = tuple(update_step_from_table(step) for step in attack.update)
        with _under("[attack.method]"), seeded(seed):
            method = None if attack.method is None else attack_method_from_table(attack.method)
        with _under("[attack.collusion]"), seeded(seed):
            collusion = None if attack.collusion is None else collusion_from_table(attack.collusion)
        if attack.distributed:
            _parts(trigger, attack)
        who = (attackers, lying_clients)
        planned.append(PlannedAttack(attack, trigger, goal, steps, *who, method, collusion))
    return tuple(planned)


def attackers_of(config: SimulationConfig) -> tuple[tuple[int, ...], ...]:
    """The client numbers of each attack's attackers. No client belongs to two attacks."""
    free = list(range(config.federation.clients))
    chosen = []
    for index, attack in enumerate(config.attack):
        order = free
        if attack.chosen == "random":
            places = torch.randperm(len(free), generator=generator(config.seed, "attackers", index))
            order = [free[place] for place in places.tolist()]
        chosen.append(tuple(sorted(order[: attack.attackers])))
        free = [number for number in free if number not in chosen[-1]]
    return tuple(chosen)


def swap_data(parts: list[Tensor], labels: Tensor, attacks: tuple[PlannedAttack, ...]) -> None:
    """Give attackers chosen by "most-source-images" the data of the clients that hold most images they attack.

    Args:
        parts: the indices of each client's images; changed in place.
        labels: the labels of all images.
        attacks: all of them, in order.
    """
    served: set[int] = set()
    for attack in attacks:
        sources = attack.attacked(labels)
        for attacker in attack.attackers:
            if attack.config.chosen == "most-source-images":
                free = [index for index in range(len(parts)) if index not in served]
                most = max(free, key=lambda index: int(sources[parts[index]].sum()))
                parts[attacker], parts[most] = parts[most], parts[attacker]
            served.add(attacker)


def _lying_clients_of(config: SimulationConfig) -> tuple[tuple[int, ...], ...]:
    """The clients that lie for each attack: its attackers first, then the lowest numbers without another role."""
    attackers = attackers_of(config)
    busy = {number for group in attackers for number in group}
    friends = [number for number in range(config.federation.clients) if number not in busy]
    lying_clients = []
    for attack, own in zip(config.attack, attackers, strict=True):
        group = (*own, *friends)[: attack.lying_clients]
        if len(group) < attack.lying_clients:
            raise ConfigError(
                f"[[attack]] lying_clients ({attack.lying_clients}) is more than the {len(group)} free clients; "
                "ask for fewer"
            )
        friends = [number for number in friends if number not in group]
        lying_clients.append(group)
    return tuple(lying_clients)


def _parts(trigger: Trigger, attack: AttackConfig) -> tuple[Trigger, ...]:
    if not isinstance(trigger, Divisible):
        raise ConfigError(
            f'[[attack]] distributed needs a trigger with parts, such as kind = "atoms"; '
            f"{attack.trigger['kind']} has none"
        )
    return trigger.parts()


@contextmanager
def _under(heading: str) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{heading} {error}") from error
