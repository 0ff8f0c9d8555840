"""The folder of a simulation: settings, and for each round a checkpoint and a line of metrics."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, TypeAdapter, model_serializer
from torch import Tensor, nn

from fedmend.aggregation import State
from fedmend.checkpoints import read_state, state_bytes
from fedmend.errors import ConfigError
from fedmend.federation.attacker_folder import AttackerFolder
from fedmend.federation.client_fit import Refused
from fedmend.federation.config import SimulationConfig
from fedmend.federation.config_reading import parse_config, read_json
from fedmend.federation.digests import Digests, digest_of
from fedmend.federation.record_lines import RecordLines, without_none
from fedmend.federation.same_settings import require_same
from fedmend.files import naming, remove_leftovers, write_bytes, write_text
from fedmend.folder_locks import locked

_CHECKPOINT = re.compile(r"round-(\d{4,})\.safetensors")
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
        decision: of a guard, in a word; None without one, and for lines measured again on resuming.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    round: Annotated[int, Field(ge=0)]
    accuracy: Annotated[float, Field(ge=0, le=1)]
    clients: tuple[int, ...]
    seconds: float | None
    refused: tuple[Refused, ...] = ()
    decision: str | None = None

    @model_serializer(mode="wrap")
    def _without_nothing(self, full: SerializerFunctionWrapHandler) -> dict[str, object]:
        return without_none(full(self), "decision")


_RECORD = TypeAdapter(RoundRecord)


@dataclass(frozen=True)
class RunFolder:
    """A simulation's results.

    ::

        config.json                               the settings without the attacks
        digests.jsonl                             by which changes from outside are noticed (see Digests)
        rounds.jsonl                              one RoundRecord per line
        checkpoints/round-0007.safetensors        the global model after round 7
        checkpoints/round-0007.state.safetensors  the rule's state, if any
        guard/                                    the history of a guard, if there is one
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
            ConfigError: ``path`` holds a run and ``resume`` is false, the run is not as it was written, or its
                settings differ from ``config``.
            OutputError: the folder can't be written, or another process trains in it.
        """
        run = cls(path)
        settings = config.to_dict()
        del settings["attack"]
        text = json.dumps(settings, indent=2) + "\n"
        with run.locked():
            if not run._has_rounds():
                run._clear()
            else:
                if not resume:
                    raise ConfigError(
                        f"{path} already holds a run; resume it (--resume) or choose another folder"
                    )
                same = simulated_config(run)
                run.check()
                run.attacker.check()
                require_same(same, config, path)
            run.attacker.save_attacks(config.attack)  # first: a folder without config.json holds no run
            run.digests.record(run.config_file.name, text.encode())
            write_text(run.config_file, text)
            run.tidy()
        return run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Within, no other process writes to the run.

        Raises:
            OutputError: another one does, or the folder can't be written.
        """
        with naming(self.path):
            folder = self.checkpoint(0).parent
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder, f"training in {self.path}"):
                yield

    def check(self) -> None:
        """Refuse a run that is not as it was written: settings, checkpoints, states, metrics; not ``attacker/``.

        Raises:
            ConfigError: it names what was changed, is missing or was added.
        """
        self.digests.check(self._contents())

    def accept(self) -> None:
        """Note everything as it is now, as if the run had written it: for runs of earlier versions.

        Raises:
            OutputError: the digests can't be written.
        """
        for name, content in self._contents():
            if content is not None:
                self.digests.record(name, content)
        self.attacker.accept()

    @property
    def attacker(self) -> AttackerFolder:
        """What only attackers know."""
        return AttackerFolder(self.path / "attacker")

    @property
    def guard(self) -> Path:
        """The folder of a guard's history."""
        return self.path / "guard"

    @property
    def config_file(self) -> Path:
        """The settings as JSON."""
        return self.path / "config.json"

    @property
    def lines(self) -> RecordLines[RoundRecord]:
        """The file of metrics."""
        return RecordLines(self.path / "rounds.jsonl", _RECORD, self.digests)

    @property
    def digests(self) -> Digests:
        """Of all files but those in ``attacker/``."""
        return Digests(self.path / "digests.jsonl")

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

    def round_of(self, model: nn.Module) -> int | None:
        """The newest round after which the global model had these weights; None if there is none."""
        known, sought = self.digests.known(), digest_of(state_bytes(model.state_dict()))
        for number in range(self.last_round() or 0, -1, -1):
            if known.get(self._name(self.checkpoint(number)), [None])[-1] == sought:
                return number
        return None

    def save_round(
        self, round_number: int, model: nn.Module, state: Mapping[str, Tensor] = _NO_STATE
    ) -> None:
        """Write the global model after a round and the aggregation rule's state, each atomically.

        The state is written first, so no checkpoint lacks its state.

        Raises:
            OutputError: a file can't be written. CheckpointError: model or state hold something other than tensors.
        """
        if state:
            self._save(self._state_file(round_number), state)
        elif self._state_file(round_number).exists():
            self.digests.record(self._name(self._state_file(round_number)), None)
            with suppress(OSError):
                self._state_file(round_number).unlink()
        self._save(self.checkpoint(round_number), model.state_dict())

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
        """Sort the lines of metrics, drop torn ones and those whose round has no checkpoint; remove half files."""
        for folder in (self.path, self.checkpoint(0).parent, self.attacker.path):
            remove_leftovers(folder)
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
        newest = self.last_round()
        left = [self.lines.path, self.digests.path, *self.attacker.results()]
        if newest is not None:
            left += [self.checkpoint(newest), self._state_file(newest)]
        for file in left:
            with suppress(OSError):
                file.unlink()
        shutil.rmtree(self.guard, ignore_errors=True)

    def _state_file(self, round_number: int) -> Path:
        return self.checkpoint(round_number).with_suffix(".state.safetensors")

    def _save(self, path: Path, state: Mapping[str, Tensor]) -> None:
        content = state_bytes(state)
        self.digests.record(self._name(path), content)
        write_bytes(path, content)

    def _name(self, path: Path) -> str:
        """What a file is called among the digests."""
        return path.relative_to(self.path).as_posix()

    def _contents(self) -> Iterator[tuple[str, bytes | None]]:
        """Everything that has a digest, and None for the state of the last round if there is none."""
        last = self.last_round()
        expected = {self.config_file} | ({self._state_file(last)} if last is not None else set())
        for file in sorted({*expected, *(self.path / "checkpoints").glob("round-*.safetensors")}):
            yield self._name(file), file.read_bytes() if file.exists() else None
        yield from self.lines.contents()


def simulated_config(run: RunFolder) -> SimulationConfig:
    """All settings of a run, with the attacks, which a defence must not know.

    Raises:
        ConfigError: there is no run, or its settings were damaged.
    """
    return replace(run.config(), attack=run.attacker.attacks())
