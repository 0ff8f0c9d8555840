"""A comparison's folder: its plan, and a run for each cell."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedmend.checked_settings import shown
from fedmend.comparison.comparison_cells import Cell
from fedmend.comparison.comparison_plan import Plan
from fedmend.errors import ConfigError, DataError
from fedmend.federation.frozen_table import plain
from fedmend.files import naming, write_text
from fedmend.folder_locks import locked

_SHOWN = 4
_ABSENT = object()


@dataclass(frozen=True)
class ComparisonFolder:
    """Where a comparison is.

    ::

        plan.json         the base's settings, axes and seeds
        runs/NAME/        a run for each cell (see RunFolder), with cell.json, its result

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def plan_file(self) -> Path:
        """The plan as JSON."""
        return self.path / "plan.json"

    def run(self, cell: Cell) -> Path:
        """The folder of a cell's run: one with its key, whatever its variants were called then, or a new one."""
        runs = self.path / "runs"
        return min(runs.glob(f"*-{cell.key[:8]}"), default=runs / cell.folder)

    def open(self, plan: Plan, *, resume: bool) -> None:
        """Start a comparison here, or with ``resume`` go on with the one that is here.

        A comparison that goes on may have more seeds, values and variants than before, in any order, other limits, and
        honest federations or none. Everything else must be as it was. Only within :meth:`locked`.

        Raises:
            ConfigError: the folder holds a comparison and ``resume`` is false, or its plan was another; the message
                names what changed. DataError: its plan was damaged. OutputError: the folder can't be written.
        """
        now = _as_json(plan)
        if self.plan_file.exists():
            if not resume:
                raise ConfigError(
                    f"{self.path} already holds a comparison; go on with it (--resume) or choose another folder"
                )
            changes = list(_changes(self._before(), now))
            if changes:
                more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
                raise ConfigError(
                    f"can't go on with {self.path} with another plan: {', '.join(changes[:_SHOWN])}{more}; more seeds, "
                    "values and variants may be added; otherwise choose another folder"
                )
        write_text(self.plan_file, json.dumps(now, indent=2) + "\n")

    def locked(self) -> Any:
        """A context in which no other process runs this comparison.

        Raises:
            OutputError: another one does, or the folder can't be written.
        """
        with naming(self.path):
            runs = self.path / "runs"
            runs.mkdir(parents=True, exist_ok=True)
            return locked(runs, f"comparing in {self.path}")

    def _before(self) -> dict[str, Any]:
        try:
            found = json.loads(self.plan_file.read_text(encoding="utf-8"))
            if not isinstance(found, dict) or not {"base", "axes", "seeds"} <= found.keys():
                raise ValueError("expected base, axes and seeds")
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(
                f"{self.plan_file} was damaged ({error}); restore it, or choose another folder"
            ) from error
        return found


def _as_json(plan: Plan) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(
        json.dumps(
            {
                "base": plain(plan.base),
                "axes": {axis.name: plain(axis.variants) for axis in plan.axes},
                "seeds": list(plan.seeds),
                "honest": plan.honest,
                "limits": asdict(plan.limits),
            },
            default=str,
        )
    )
    return made


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What differs but for what may be added, in words."""
    yield from _differences(before["base"], now["base"])
    for name, variants in before["axes"].items():
        if name not in now["axes"]:
            yield f"compare.{name} is missing"
            continue
        for label, settings in variants.items():
            if label not in now["axes"][name]:
                yield f"compare.{name}.{label} is missing"
            else:
                yield from _differences(settings, now["axes"][name][label], f"compare.{name}.{label}")
    yield from (f"compare.{name} is new" for name in now["axes"] if name not in before["axes"])
    gone = [seed for seed in before["seeds"] if seed not in now["seeds"]]
    if gone:
        yield f"compare.seeds lacks {', '.join(map(str, gone))}"


def _differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            yield from _differences(
                before.get(key, _ABSENT), now.get(key, _ABSENT), f"{path}.{key}" if path else key
            )
    elif before is _ABSENT:
        yield f"{path} is new ({shown(now)})"
    elif now is _ABSENT:
        yield f"{path} is missing (was {shown(before)})"
    elif before != now:
        yield f"{path} was {shown(before)}, now {shown(now)}"
