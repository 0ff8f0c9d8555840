"""Combinations: steps that clip updates or leave clients out, then an aggregation rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from functools import cached_property
from typing import Any

from torch import Tensor

from fedmend.aggregation.base import Aggregator, Preparation, State, Updates
from fedmend.checked_settings import settings
from fedmend.user_code import is_own


@settings
class Chain:
    """Prepare the updates step by step, then aggregate what is left.

    By default updates are clipped to the median norm, then each coordinate's median is taken. Non-finite deltas and
    numbers of examples are treated as the steps and the rule treat them.

    Its state is the rule's.

    Attributes:
        before: the steps, in order: tables with a ``kind`` of :data:`fedmend.aggregation.PREPARATIONS`, or
            ``package.module:factory``, and settings.
        rule: the table of the rule at the end.

    Raises:
        ConfigError: a kind or one of its settings is unknown or out of range.
    """

    before: tuple[dict[str, Any], ...] = ({"kind": "clip"},)
    rule: dict[str, Any] = field(default_factory=lambda: {"kind": "median"})

    def __post_init__(self) -> None:
        """Check the tables, except those of a user's own code, which a reader of settings may lack."""
        for table in self.before:
            if not _is_users(table):
                _step(table)
        if not _is_users(self.rule):
            _rule(self.rule)

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`.

        Raises:
            DataError: no delta is finite.
        """
        for step in self._steps:
            updates = step.prepare(updates)
        return self._last(updates, state)

    @property
    def root_images(self) -> int | None:
        """How many root images the rule at the end needs (see :class:`.FLTrust`)."""
        return getattr(self._last, "root_images", None)

    @cached_property
    def _steps(self) -> tuple[Preparation, ...]:
        return tuple(map(_step, self.before))

    @cached_property
    def _last(self) -> Aggregator:
        return _rule(self.rule)


def _is_users(table: Mapping[str, Any]) -> bool:
    kind = table.get("kind")
    return isinstance(kind, str) and is_own(kind)


def _step(table: Mapping[str, Any]) -> Preparation:
    from fedmend.aggregation import preparation_from_table  # it imports this module

    return preparation_from_table(table)


def _rule(table: Mapping[str, Any]) -> Aggregator:
    from fedmend.aggregation import aggregator_from_table  # it imports this module

    return aggregator_from_table(table)
