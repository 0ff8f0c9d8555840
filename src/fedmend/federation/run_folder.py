"""The folder of a simulation: settings, a checkpoint and a line of metrics for each round."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from torch import nn

from fedmend.checkpoints import save_state, save_trigger
from fedmend.errors import ConfigError, OutputError
from fedmend.federation.config import SimulationConfig, parse_config
from fedmend.files import write_text
from fedmend.triggers import Patch

_CHECKPOINT = re.compile(r"round-(\d{4,})\.safetensors")


@dataclass(frozen=True)
class RoundRecord:
    """One line of ``rounds.jsonl``. Shares are in [0, 1]; ``asr`` is None in an honest federation.

    ``seconds`` is None for the initial model, and where a killed run's line was measured again on resuming.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    round: Annotated[int, Field(ge=0)]
    accuracy: Annotated[float, Field(ge=0, le=1)]
    asr: Annotated[float, Field(ge=0, le=1)] | None
    clients: tuple[int, ...]
    attackers: tuple[int, ...]
    seconds: float | None


_RECORD = TypeAdapter(RoundRecord)


@dataclass(frozen=True)
class RunFolder:
    """Where a simulation's results are.

    ::

        config.json                       the settings
        rounds.jsonl                      a RoundRecord a line
        checkpoints/round-0007.safetensors  the global model after round 7; round 0 is the initial one
        planted_trigger.safetensors       the attacker's full trigger, if there is an attack
    """

    path: Path

    @classmethod
    def open(cls, path: Path, config: SimulationConfig, planted: Patch | None, *, resume: bool) -> RunFolder:
        """Start a run in ``path``, or with ``resume`` go on with the one that is there.

        Raises:
            ConfigError: a run is there and ``resume`` is false, or it has other settings than ``config``.
            OutputError: the folder can't be written.
        """
        run = cls(path)
        if run.config_file.exists() or run.records_file.exists() or run.last_round() is not None:
            if not resume:
                raise ConfigError(
                    f"{path} already holds a run; resume it (--resume) or choose another folder"
                )
            _check_same(run.config(), config, path)
        write_text(run.config_file, json.dumps(config.to_dict(), indent=2) + "\n")
        if planted is not None:
            save_trigger(planted, path / "planted_trigger.safetensors")
        run.tidy_records()
        return run

    @property
    def config_file(self) -> Path:
        """The settings as JSON."""
        return self.path / "config.json"

    @property
    def records_file(self) -> Path:
        """The metrics, a JSON line a round."""
        return self.path / "rounds.jsonl"

    def config(self) -> SimulationConfig:
        """The settings of the run in this folder.

        Raises:
            ConfigError: there is no run here, or its settings were damaged.
        """
        try:
            settings = json.loads(self.config_file.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{self.path} holds no run: can't read {self.config_file.name}") from error
        except ValueError as error:
            raise ConfigError(f"{self.config_file} is not valid JSON: {error}") from error
        try:
            return parse_config(settings)
        except ConfigError as error:
            raise ConfigError(f"{self.config_file}: {error}") from error

    def checkpoint(self, round_number: int) -> Path:
        """The path of the global model after a round."""
        return self.path / "checkpoints" / f"round-{round_number:04d}.safetensors"

    def last_round(self) -> int | None:
        """The number of the newest checkpoint, or None if there is none yet."""
        found = [_CHECKPOINT.fullmatch(file.name) for file in (self.path / "checkpoints").glob("round-*")]
        return max((int(match[1]) for match in found if match), default=None)

    def save_round(self, round_number: int, model: nn.Module) -> None:
        """Write the global model after a round, whole or not at all."""
        save_state(model.state_dict(), self.checkpoint(round_number))

    def append(self, record: RoundRecord) -> None:
        """Add a line of metrics.

        Raises:
            OutputError: it can't be written.
        """
        try:
            with self.records_file.open("ab") as file:
                file.write(_RECORD.dump_json(record) + b"\n")
        except OSError as error:
            raise OutputError(f"can't write {self.records_file}: {error.strerror or error}") from error

    def records(self) -> tuple[RoundRecord, ...]:
        """The metrics of all whole lines, by round; a torn line, as a killed run leaves it, is passed over."""
        if not self.records_file.exists():
            return ()
        found = {}
        for line in self.records_file.read_bytes().splitlines():
            try:
                record = _RECORD.validate_json(line)
            except ValidationError:
                continue
            found[record.round] = record
        return tuple(found[number] for number in sorted(found))

    def tidy_records(self) -> None:
        """Put the lines in order and drop those that are torn or whose round has no checkpoint."""
        if self.records_file.exists():
            last = self.last_round()
            kept = [record for record in self.records() if last is not None and record.round <= last]
            lines = [_RECORD.dump_json(record).decode() for record in kept]
            write_text(self.records_file, "".join(line + "\n" for line in lines))


def _check_same(old: SimulationConfig, new: SimulationConfig, path: Path) -> None:
    before, after = _flat(old), _flat(new)
    changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    changed = sorted(key for key in changed if key != "federation.rounds")
    if changed:
        shown = ", ".join(f"{key} was {before.get(key)!r}, now {after.get(key)!r}" for key in changed)
        raise ConfigError(f"can't resume {path} with other settings: {shown}; choose another folder")
    if new.federation.rounds < old.federation.rounds:
        raise ConfigError(
            f"can't resume {path} with fewer rounds ({new.federation.rounds}) than before ({old.federation.rounds})"
        )


def _flat(config: SimulationConfig) -> dict[str, object]:
    flat: dict[str, object] = {}
    for table, values in config.to_dict().items():
        if isinstance(values, dict):
            flat |= {f"{table}.{key}": value for key, value in values.items()}
        else:
            flat[table] = values
    return flat
