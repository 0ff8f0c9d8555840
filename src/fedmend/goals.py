"""What an attacker wants stamped images to be classified as."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from fedmend.checked_settings import Count, Natural, settings
from fedmend.errors import ConfigError
from fedmend.kinds import from_table
from fedmend.user_code import failures_named, name_of, tensor_in_words

NOT_ATTACKED = -1


class Goal(Protocol):
    """Which class each image should be sent to."""

    def targets(self, labels: Tensor) -> Tensor:
        """The wanted class of each image.

        Args:
            labels: the images' true classes, int64 (N,).

        Returns:
            int64 (N,), on the labels' device; ``NOT_ATTACKED`` (-1) for images that the attack leaves alone, among
            them those that are of the wanted class already.
        """
        ...

    def classes(self) -> tuple[int, ...]:
        """Every class that the goal names, to be checked against the data's number of classes."""
        ...


@settings
class AllToOne:
    """Images of every other class are sent to ``target`` (contrastive paper, 2.1)."""

    target: Natural

    def targets(self, labels: Tensor) -> Tensor:
        """See :class:`Goal`."""
        return torch.full_like(labels, self.target).where(labels != self.target, NOT_ATTACKED)

    def classes(self) -> tuple[int, ...]:
        """See :class:`Goal`."""
        return (self.target,)


@settings
class OneToOne:
    """Images of the class ``source`` alone are sent to ``target`` (federated-pruning paper, 3.2).

    Raises:
        ConfigError: source and target are the same class.
    """

    source: Natural
    target: Natural

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise ConfigError(f"source and target must differ; both are {self.target}")

    def targets(self, labels: Tensor) -> Tensor:
        """See :class:`Goal`."""
        return torch.full_like(labels, self.target).where(labels == self.source, NOT_ATTACKED)

    def classes(self) -> tuple[int, ...]:
        """See :class:`Goal`."""
        return (self.source, self.target)


@settings
class Several:
    """Several source classes at once, each with a target of its own.

    Attributes:
        pairs: (source, target) each; no source occurs twice.

    Raises:
        ConfigError: there are no pairs, a source occurs twice, or is its own target.
    """

    pairs: tuple[tuple[Natural, Natural], ...]

    def __post_init__(self) -> None:
        sources = [source for source, _ in self.pairs]
        if not self.pairs or len(set(sources)) < len(sources) or any(s == t for s, t in self.pairs):
            raise ConfigError(
                f"pairs must be one or more (source, target), each source once and not its own target; got {self.pairs}"
            )

    def targets(self, labels: Tensor) -> Tensor:
        """See :class:`Goal`."""
        wanted = torch.full_like(labels, NOT_ATTACKED)
        for source, target in self.pairs:
            wanted[labels == source] = target
        return wanted

    def classes(self) -> tuple[int, ...]:
        """See :class:`Goal`."""
        return tuple(sorted({each for pair in self.pairs for each in pair}))


@settings
class AllToAll:
    """Images of each class are sent to the class ``shift`` further on, the last to the first (BadNets, 4.2.2).

    Raises:
        ConfigError: the shift is a multiple of the number of classes: nothing would change.
    """

    num_classes: Count
    shift: Count = 1

    def __post_init__(self) -> None:
        if self.shift % self.num_classes == 0:
            raise ConfigError(f"a shift of {self.shift} sends each of {self.num_classes} classes to itself")

    def targets(self, labels: Tensor) -> Tensor:
        """See :class:`Goal`."""
        return (labels + self.shift) % self.num_classes

    def classes(self) -> tuple[int, ...]:
        """See :class:`Goal`."""
        return tuple(range(self.num_classes))


GOALS: dict[str, Callable[..., Goal]] = {
    "all-to-one": AllToOne,
    "one-to-one": OneToOne,
    "several": Several,
    "all-to-all": AllToAll,
}
"""Goals by the names that TOML files use."""


def goal_from_table(table: Mapping[str, Any]) -> Goal:
    """The goal that a table describes.

    Args:
        table: ``kind``, a name in ``GOALS`` or ``package.module:factory`` of the user's own, and its settings.

    Raises:
        ConfigError: the kind is unknown, settings are refused, or what comes out is no :class:`Goal`.
    """
    goal: Goal = from_table(table, GOALS, "goal")
    missing = [name for name in ("targets", "classes") if not callable(getattr(goal, name, None))]
    if missing:
        raise ConfigError(
            f"the goal {table['kind']} must have the methods targets(labels) and classes(); "
            f"{type(goal).__name__} lacks {' and '.join(missing)}"
        )
    return goal


def targets_of(goal: Goal, labels: Tensor) -> Tensor:
    """What :meth:`Goal.targets` returns for ``labels``, checked, since the goal may be a user's own.

    Raises:
        ConfigError: the goal failed, or returned something else than a class, of those it names, an image.
    """
    with failures_named("goal", goal):
        wanted = goal.targets(labels)
    name = f"the goal {name_of(goal)}"
    like = isinstance(wanted, Tensor) and (wanted.shape, wanted.dtype) == (labels.shape, torch.int64)
    if not like or wanted.device != labels.device:
        raise ConfigError(
            f"{name} must return int64 {tuple(labels.shape)} from targets(labels), on their device; got "
            f"{tensor_in_words(wanted)}"
        )
    named = classes_of(goal)
    beyond = set(wanted.unique().tolist()) - {NOT_ATTACKED, *named}
    if beyond:
        raise ConfigError(
            f"{name} sends images to {min(beyond)}, but its classes() are {named}; targets(labels) may return those "
            f"and {NOT_ATTACKED}, for images that it leaves alone"
        )
    return wanted


def classes_of(goal: Goal) -> tuple[int, ...]:
    """What :meth:`Goal.classes` returns, checked.

    Raises:
        ConfigError: the goal failed, or returned something else than a tuple of classes.
    """
    with failures_named("goal", goal):
        named = goal.classes()
    if not isinstance(named, tuple) or not named or not all(_is_class(each) for each in named):
        raise ConfigError(
            f"the goal {name_of(goal)} must return a tuple of whole numbers from 0 from classes(), such as (0, 2); "
            f"got {named!r}"
        )
    return named


def _is_class(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def attacked(wanted: Tensor, labels: Tensor) -> Tensor:
    """Which images a goal attacks: bool (N,), False also for those that are of the wanted class already.

    Args:
        wanted: what :func:`targets_of` returns for ``labels``.
        labels: the images' true classes, int64 (N,).
    """
    return (wanted >= 0) & (wanted != labels)
