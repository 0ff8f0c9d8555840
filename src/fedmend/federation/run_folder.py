"""The folder of a simulation: settings, and for each round a checkpoint and a line of metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter
from torch import Tensor, nn

from fedmend.aggregation import State
from fedmend.checkpoints import read_state, save_state
from fedmend.errors import ConfigError
from fedmend.federation.attacker_folder import AttackerFolder
from fedmend.federation.client_fit import Refused
from fedmend.federation.config import SimulationConfig
from fedmend.federation.config_reading import parse_config, read_json
from fedmend.federation.record_lines import RecordLines
from fedmend.files import write_text

_CHECKPOINT = re.compile(r"round-(\d{4,})\.safetensors")
_SHOWN = 4
_NO_STATE: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class RoundRecord:
    """One line of ``rounds.jsonl``: what the server knows about a round.

    Attributes:
        round: its number.
        accuracy: test accuracy of the global model after the round, in [0, 1].
        clients: the clients that took part.
        seconds: duration of the round; None for the initial model and for lines measured again on resuming.
        refused: clients whose updates did not count, and why; empty for lines measured again on resuming.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    round: Annotated[int, Field(ge=0)]
    accuracy: Annotated[float, Field(ge=0, le=1)]
    clients: tuple[int, ...]
    seconds: float | None
    refused: tuple[Refused, ...] = ()


_RECORD = TypeAdapter(RoundRecord)


@dataclass(frozen=True)
class RunFolder:
    """A simulation's results.

    ::

        config.json                               the settings without the attacks
        rounds.jsonl                              one RoundRecord per line
        checkpoints/round-0007.safetensors        the global model after round 7
        checkpoints/round-0007.state.safetensors  the rule's state, if any
        attacker/                                 what only attackers know (see AttackerFolder)

    Only ``open`` and ``attacker`` access ``attacker/``. The path may be given as text.
    """

    path: Path

    def __init__(self, path: Path | str) -> None:
        object.__setattr__(self, "path", Path(path))

    @classmethod
    def open(cls, path: Path, config: SimulationConfig, *, resume: bool) -> RunFolder:
        """Start a run in ``path``, or with ``resume`` continue the one there.

        A run that ended before its first round was done, such as by an error in a method of the user's own, leaves
        nothing to go on with: it is started over, with any settings.

        Args:
            path: the folder.
            config: all settings, attacks included.
            resume: whether ``path`` may already hold a run.

        Raises:
            ConfigError: ``path`` holds a run and ``resume`` is false, or its settings differ from ``config``.
            OutputError: the folder can't be written.
        """
        run = cls(path)
        if not run._has_rounds():
            run._clear()
        else:
            if not resume:
                raise ConfigError(
                    f"{path} already holds a run; resume it (--resume) or choose another folder"
                )
            _check_same(simulated_config(run), config, path)
        run.attacker.save_attacks(config.attack)  # first: a folder without config.json holds no run
        settings = config.to_dict()
        del settings["attack"]
        write_text(run.config_file, json.dumps(settings, indent=2) + "\n")
        run.tidy()
        return run

    @property
    def attacker(self) -> AttackerFolder:
        """What only attackers know."""
        return AttackerFolder(self.path / "attacker")

    @property
    def config_file(self) -> Path:
        """The settings as JSON."""
        return self.path / "config.json"

    @property
    def lines(self) -> RecordLines[RoundRecord]:
        """The file of metrics."""
        return RecordLines(self.path / "rounds.jsonl", _RECORD)

    def config(self) -> SimulationConfig:
        """The settings of the run as the server knows them, without the attacks.

        Raises:
            ConfigError: there is no run here, or its settings were damaged.
        """
        try:
            return read_json(self.config_file, parse_config)
        except FileNotFoundError as error:
            raise ConfigError(f"{self.path} holds no run: there is no {self.config_file.name}") from error

    def checkpoint(self, round_number: int) -> Path:
        """The path of the global model after a round."""
        return self.path / "checkpoints" / f"round-{round_number:04d}.safetensors"

    def last_round(self) -> int | None:
        """The number of the newest checkpoint, or None if there is none yet."""
        found = [_CHECKPOINT.fullmatch(file.name) for file in (self.path / "checkpoints").glob("round-*")]
        return max((int(match[1]) for match in found if match), default=None)

    def save_round(
        self, round_number: int, model: nn.Module, state: Mapping[str, Tensor] = _NO_STATE
    ) -> None:
        """Write the global model after a round and the aggregation rule's state, each atomically.

        The state is written first, so no checkpoint lacks its state.

        Raises:
            OutputError: a file can't be written. CheckpointError: model or state hold something other than tensors.
        """
        if state:
            save_state(state, self._state_file(round_number))
        else:
            with suppress(OSError):
                self._state_file(round_number).unlink()
        save_state(model.state_dict(), self.checkpoint(round_number))

    def aggregator_state(self, round_number: int) -> State:
        """The aggregation rule's state after a round, on the CPU; {} if there is none.

        Raises:
            CheckpointError: the file is damaged.
        """
        file = self._state_file(round_number)
        return read_state(file) if file.exists() else {}

    def records(self) -> tuple[RoundRecord, ...]:
        """The metrics of all rounds, in order; lines torn by a killed run are skipped."""
        return self.lines.read()

    def tidy(self) -> None:
        """Sort the lines of metrics; drop torn ones and those whose round has no checkpoint."""
        last = self.last_round()
        self.lines.tidy(last)
        self.attacker.lines.tidy(last)

    def _has_rounds(self) -> bool:
        """Whether a round was done here, or may have been."""
        newest = self.last_round()
        if newest is None and not self.config_file.exists() and not self.lines.path.exists():
            return False
        try:
            first = self.config().model.start_round
        except ConfigError:
            return True
        return max([newest or 0, *(record.round for record in self.records())]) > first

    def _clear(self) -> None:
        """Remove what a run without a round left."""
        newest, left = self.last_round(), [self.lines.path, *self.attacker.results()]
        if newest is not None:
            left += [self.checkpoint(newest), self._state_file(newest)]
        for file in left:
            with suppress(OSError):
                file.unlink()

    def _state_file(self, round_number: int) -> Path:
        return self.checkpoint(round_number).with_suffix(".state.safetensors")


def simulated_config(run: RunFolder) -> SimulationConfig:
    """All settings of a run, with the attacks, which a defence must not know.

    Raises:
        ConfigError: there is no run, or its settings were damaged.
    """
    return replace(run.config(), attack=run.attacker.attacks())


def _check_same(old: SimulationConfig, new: SimulationConfig, path: Path) -> None:
    before, after = (_flat(json.loads(json.dumps(config.to_dict()))) for config in (old, new))
    changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    changed = sorted(key for key in changed if key != "federation.rounds")
    if changed:
        first = changed[:_SHOWN]
        shown = ", ".join(f"{key} was {before.get(key)!r}, now {after.get(key)!r}" for key in first)
        shown += f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise ConfigError(f"can't resume {path} with other settings: {shown}; choose another folder")
    if new.federation.rounds < old.federation.rounds:
        raise ConfigError(
            f"can't resume {path} with fewer rounds ({new.federation.rounds}) than before ({old.federation.rounds})"
        )


def _flat(value: Any, name: str = "") -> dict[str, object]:
    """Nested settings by dotted names; those of the second attack start with ``attack.2.``."""
    if isinstance(value, dict) and value:
        named = list(value.items())
    elif isinstance(value, list) and all(isinstance(each, dict) for each in value):
        named = [(str(number), each) for number, each in enumerate(value, 1)]
    else:
        return {name: value}
    return {
        key: found
        for part, each in named
        for key, found in _flat(each, f"{name}.{part}" if name else part).items()
    }
