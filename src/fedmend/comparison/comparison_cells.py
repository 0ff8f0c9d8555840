"""The cells of a comparison: one federation for each combination of variants and each seed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fedmend.checked_settings import explain
from fedmend.comparison.comparison_plan import Plan
from fedmend.comparison.final_votes import Votes
from fedmend.comparison.variant_merging import OPTIONAL, REMOVED, merged
from fedmend.errors import ConfigError
from fedmend.federation import SimulationConfig, parse_config
from fedmend.guard import GuardPolicy

_LONGEST_NAME = 60
_VOTES = TypeAdapter(Votes)


@dataclass(frozen=True)
class Cell:
    """One federation of a comparison.

    Attributes:
        choices: the label of the chosen variant, by the axis's name, in the plan's order.
        config: the simulation.
        votes: how the clients vote on what to prune when the rounds are over; None: they don't.
    """

    choices: Mapping[str, str]
    config: SimulationConfig
    votes: Votes | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the result, as JSON has it."""
        table = self.config.to_dict()
        return table if self.votes is None else table | {"votes": self.votes.to_dict()}

    @property
    def key(self) -> str:
        """Hexadecimal digits that cells share if and only if their settings are the same."""
        text = json.dumps(self.settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def folder(self) -> str:
        """The name of its folder, from its choices, its seed and its key."""
        words = "-".join([*self.choices.values(), f"seed-{self.config.seed}"]).lower()
        plain = re.sub(r"[^a-z0-9.]+", "-", words).strip("-.")[:_LONGEST_NAME]
        return f"{plain}-{self.key[:8]}"

    def honest(self) -> Cell:
        """The same federation without an attack and without a defence."""
        return Cell({"federation": "honest"}, replace(self.config, attack=(), guard=None))


def cells_of(plan: Plan) -> tuple[Cell, ...]:
    """Every combination of a plan's variants with each seed; seeds vary fastest.

    Raises:
        ConfigError: a combination's settings are refused, or contradict each other; the message names it.
    """
    found = []
    for labels in product(*(axis.variants for axis in plan.axes)):
        choices = {axis.name: label for axis, label in zip(plan.axes, labels, strict=True)}
        try:
            tables = dict(plan.base)
            for axis, label in zip(plan.axes, labels, strict=True):
                tables = merged(tables, axis.variants[label])
            _require_absent(plan, labels, tables)
            found += [_cell(choices, tables | {"seed": seed}) for seed in plan.seeds]
        except ConfigError as error:
            where = ", ".join(f"{name} {label}" for name, label in choices.items())
            raise ConfigError(f"{where}: {error}" if where else str(error)) from error
    return tuple(found)


def _require_absent(plan: Plan, labels: tuple[str, ...], tables: Mapping[str, Any]) -> None:
    """Refuse a combination in which one axis adds a guard or votes where another's variant has none."""
    for table in (name for name in OPTIONAL if name in tables):
        for axis, label in zip(plan.axes, labels, strict=True):
            own = axis.variants[label].get(table)
            lacks = own is None and table not in plan.base
            if own == REMOVED or (lacks and any(table in each for each in axis.variants.values())):
                raise ConfigError(
                    f"{axis.name} {label} has no [{table}], and another axis adds one; make a variant of {axis.name} "
                    f"for each [{table}] instead"
                )


def with_honest(cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """The cells that are to run: those given, and the honest federation of each; none twice."""
    every = [*cells, *(cell.honest() for cell in cells)]
    return tuple(
        {cell.key: cell for cell in reversed(every)}[key] for key in dict.fromkeys(c.key for c in every)
    )


def _cell(choices: Mapping[str, str], tables: dict[str, Any]) -> Cell:
    given = tables.pop("votes", None)
    config = parse_config(tables)
    if config.guard is not None:
        GuardPolicy.from_table(config.guard)
    return Cell(choices, config, None if given is None else _votes(given))


def _votes(given: Any) -> Votes:
    try:
        return _VOTES.validate_python(given)
    except ValidationError as error:
        said = (
            explain(dict(each), Votes, f"[votes] {'.'.join(map(str, each['loc']))}".rstrip())
            for each in error.errors()
        )
        raise ConfigError("; ".join(said)) from error
