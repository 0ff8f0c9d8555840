"""What only the attackers of a simulation know. A defence must never open it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, TypeAdapter, model_serializer
from torch import Tensor

from fedmend.checkpoints import read_patch, save_state, save_trigger
from fedmend.federation.attack_config import AttackConfig
from fedmend.federation.config_reading import parse_attacks, read_json
from fedmend.federation.digests import Digests
from fedmend.federation.record_lines import RecordLines, without_none
from fedmend.files import write_text
from fedmend.pixels import to_float
from fedmend.triggers import Drawing, Patch, Trigger, stamp

_Rate = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class AttackRecord:
    """One line of ``attacker/rounds.jsonl``.

    Attributes:
        round: its number.
        attackers: the clients that attacked in this round.
        asr: the global model's attack success rate after the round, in [0, 1], for each attack.
        candidate_asr: that of the candidate, before a guard's decision; None without a guard, and for lines measured
            again on resuming.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    round: Annotated[int, Field(ge=0)]
    attackers: tuple[int, ...]
    asr: tuple[_Rate, ...]
    candidate_asr: tuple[_Rate, ...] | None = None

    @model_serializer(mode="wrap")
    def _without_nothing(self, full: SerializerFunctionWrapHandler) -> dict[str, object]:
        return without_none(full(self), "candidate_asr")


_RECORD = TypeAdapter(AttackRecord)


@dataclass(frozen=True)
class AttackerFolder:
    """The folder ``attacker`` of a run; there is none in an honest federation.

    ::

        attacks.json              the attacks' settings
        digests.jsonl             see Digests
        rounds.jsonl              one AttackRecord per line
        trigger-0.safetensors     the first attack's whole trigger, if it is a patch
        example-0.safetensors     otherwise a test image without and with it
    """

    path: Path

    def save_attacks(self, attacks: Sequence[AttackConfig]) -> None:
        """Write the attacks' settings; without attacks, remove the file of a run that never started.

        Raises:
            OutputError: the file can't be written.
        """
        if attacks:
            text = json.dumps([asdict(attack) for attack in attacks], indent=2) + "\n"
            self.digests.record(self._attacks_file.name, text.encode())
            write_text(self._attacks_file, text)
        else:
            with suppress(OSError):
                self._attacks_file.unlink()

    def save_trigger(self, index: int, trigger: Trigger, image: Tensor) -> None:
        """Write an attack's whole trigger if it is a patch, else an image without and with it.

        Args:
            index: the attack's index.
            trigger: the trigger.
            image: uint8 (C, H, W), to show it on.

        Raises:
            OutputError: the file can't be written.
        """
        patch = patch_of(trigger)
        if patch is not None:
            save_trigger(patch, self.trigger_file(index))
        else:
            clean = to_float(image)
            example = {"clean": clean, "stamped": stamp(trigger, clean[None])[0]}
            save_state(example, self.path / f"example-{index}.safetensors")

    def attacks(self) -> tuple[AttackConfig, ...]:
        """The attacks' settings; none in an honest federation.

        Raises:
            ConfigError: they were damaged.
        """
        try:
            return read_json(self._attacks_file, parse_attacks)
        except FileNotFoundError:
            return ()

    def trigger_file(self, index: int) -> Path:
        """The file of an attack's trigger, if that is a patch."""
        return self.path / f"trigger-{index}.safetensors"

    def trigger(self, index: int) -> Patch | None:
        """An attack's whole trigger; None if it is no patch.

        Raises:
            CheckpointError: the file is damaged.
        """
        file = self.trigger_file(index)
        return read_patch(file) if file.exists() else None

    @property
    def lines(self) -> RecordLines[AttackRecord]:
        """The file of records."""
        return RecordLines(self.path / "rounds.jsonl", _RECORD, self.digests)

    @property
    def digests(self) -> Digests:
        """Of the attacks' settings and the records."""
        return Digests(self.path / "digests.jsonl")

    def check(self) -> None:
        """Refuse settings or records that are not as the run wrote them.

        Raises:
            ConfigError: it names what was changed.
        """
        if self._attacks_file.exists() or self.lines.path.exists() or self.digests.path.exists():
            self.digests.check(self._contents())

    def accept(self) -> None:
        """Note everything as it is now, as if the run had written it."""
        for name, content in self._contents():
            if content is not None:
                self.digests.record(name, content)

    def records(self) -> tuple[AttackRecord, ...]:
        """The records of all rounds, in order; none in an honest federation."""
        return self.lines.read()

    def results(self) -> list[Path]:
        """All files that may be here but the attacks' settings."""
        return [
            self.lines.path,
            *self.path.glob("trigger-*.safetensors"),
            *self.path.glob("example-*.safetensors"),
            self.digests.path,
        ]

    def _contents(self) -> Iterable[tuple[str, bytes | None]]:
        file = self._attacks_file
        return [(file.name, file.read_bytes() if file.exists() else None), *self.lines.contents()]

    @property
    def _attacks_file(self) -> Path:
        return self.path / "attacks.json"


def patch_of(trigger: Trigger) -> Patch | None:
    """The patch that a trigger is or draws; None if there is none."""
    if isinstance(trigger, Drawing):
        return trigger.patch
    return trigger if isinstance(trigger, Patch) else None
