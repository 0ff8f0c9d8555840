"""What a guard does, as settings that an operator reads and sets: in TOML or in Python."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from fedmend.checked_settings import Count, Fraction, Natural, Positive, explain, settings
from fedmend.detection import DETECTORS, Detector, Need
from fedmend.errors import ConfigError
from fedmend.federation.frozen_table import FrozenTable, Table, plain
from fedmend.kinds import from_table
from fedmend.repairs import REPAIRS, FederatedPruning, Repair

_REPAIRS = {
    name: partial(replace, cast(Any, repair))
    for name, repair in REPAIRS.items()
    if not isinstance(repair, FederatedPruning)
}
"""Repairs on the guard's own images: a review asks no client."""


def _as_text(path: object) -> object:
    return os.fspath(path) if isinstance(path, os.PathLike) else path


def _table(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


def _tables(value: object) -> object:
    return tuple(_table(each) for each in value) if isinstance(value, list | tuple) else value


Tables = Annotated[tuple[Table, ...], BeforeValidator(_tables)]


@settings
class GuardPolicy:
    """The rules of a guard. The defaults need no threshold set by hand.

    Attributes:
        detectors: each a name of :data:`fedmend.detection.DETECTORS`, ``package.module:factory``, or a table with that
            as its ``kind`` and the detector's settings, such as ``{kind = "differential", effort = "quick"}``.
        trusted: a model file that the operator vouches for, as the first reference, such as a pre-trained model.
        first_detectors: used in place of these while there is no accepted model; they must need no reference.
        warm_up: the first so many rounds are accepted without a scan, because the operator vouches that only trusted
            clients train in them. 0: none.
        every: scan in each round that this number divides. Training goes on with the candidates in between, which are
            checked for everything else, but none is released: see ``hold`` in :class:`Decision`.
        images_per_class: how many of the guard's images one scan looks at, drawn anew each time.
        older_references: in every second scan, a candidate is also compared with the models that were accepted so many
            acceptances before it, or the oldest that is kept, so that a backdoor planted slowly is seen. Empty: never.
        time_limit: seconds that one review may take, scans and repair together; None: no limit.
        accuracy_floor: a model below this clean accuracy isn't released; None: any.
        accuracy_drop: nor one that is by more than this below the last accepted one; None: any.
        inconclusive: what follows an inconclusive scan: "rollback", or "repair", which tries to remove what the scan
            found. No model is released on an inconclusive scan.
        repair: of a candidate with a backdoor: a name of :data:`fedmend.repairs.REPAIRS` that works on the guard's own
            images, ``package.module:factory``, or such a table; "none": roll back at once.
        stop_after: after so many rejections in succession, decisions say that the federation should stop; None: never.
            Rounds that are held, or bring weights which were accepted before, don't end the succession.
        history_limit: how many accepted models the history keeps.

    Raises:
        ConfigError: a setting is unknown, out of range, or inconsistent with another.
    """

    detectors: Tables = field(default_factory=lambda: (FrozenTable({"kind": "differential"}),))
    trusted: Annotated[str, BeforeValidator(_as_text)] | None = None
    first_detectors: Tables = ()
    warm_up: Natural = 0
    every: Count = 1
    images_per_class: Count = 40
    older_references: tuple[Count, ...] = (5,)
    time_limit: Positive | None = None
    accuracy_floor: Fraction | None = None
    accuracy_drop: Fraction | None = None
    inconclusive: Literal["rollback", "repair"] = "rollback"
    repair: Annotated[Table, BeforeValidator(_table)] = field(
        default_factory=lambda: FrozenTable({"kind": "unlearn"})
    )
    stop_after: Count | None = None
    history_limit: Count = 10

    def __post_init__(self) -> None:
        if not self.detectors:
            raise ConfigError("[guard] detectors: expected at least one; got none")
        oldest = max(self.older_references, default=0)
        if oldest >= self.history_limit:
            raise ConfigError(
                f"[guard] history_limit ({self.history_limit}) must be above the largest of older_references ({oldest})"
            )
        chosen = [name for name in ("trusted", "first_detectors", "warm_up") if getattr(self, name)]
        if len(chosen) > 1:
            raise ConfigError(f"[guard] {' and '.join(chosen)} are several beginnings; choose one")
        self.made_detectors()
        for made in self.made_first_detectors():
            if Need.REFERENCE in made.needs:
                raise ConfigError(
                    f"[guard] first_detectors must need no reference; {type(made).__name__} does. Choose one that "
                    "needs none, such as one of your own"
                )
        self.made_repair()

    def made_detectors(self) -> tuple[Detector, ...]:
        """The detectors that compare a candidate with an accepted model."""
        return tuple(from_table(table, DETECTORS, "detector") for table in self.detectors)

    def made_first_detectors(self) -> tuple[Detector, ...]:
        """Those for the first rounds, without a reference."""
        return tuple(from_table(table, DETECTORS, "detector") for table in self.first_detectors)

    def made_repair(self) -> Repair | None:
        """The repair; None: there is none."""
        if self.repair == {"kind": "none"}:
            return None
        made: Repair = from_table(self.repair, _REPAIRS, "repair")
        return made

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON and TOML have them."""
        return plain(asdict(self))

    @staticmethod
    def from_table(table: Mapping[str, Any]) -> GuardPolicy:
        """Check a table ``[guard]``, as TOML or JSON gives it.

        Raises:
            ConfigError: a key is unknown, or a value out of range.
        """
        try:
            return _ADAPTER.validate_python(dict(table))
        except ValidationError as error:
            said = (
                explain(
                    dict(problem), GuardPolicy, f"[guard] {'.'.join(str(part) for part in problem['loc'])}"
                )
                for problem in error.errors()
            )
            raise ConfigError("; ".join(said)) from error

    @staticmethod
    def from_toml(path: Path | str) -> GuardPolicy:
        """Read the table ``[guard]`` of a TOML file; other tables, such as those of a simulation, are left alone.

        Raises:
            ConfigError: the file can't be read, has no such table, or :meth:`from_table` refuses it.
        """
        path = Path(path)
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"can't read {path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from error
        if not isinstance(tables.get("guard"), dict):
            raise ConfigError(f"{path} holds no table [guard]; expected one with the policy's settings")
        try:
            return GuardPolicy.from_table(tables["guard"])
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


_ADAPTER = TypeAdapter(GuardPolicy)
