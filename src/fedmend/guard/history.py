"""A guard's history on disk: every decision, and the newest accepted models, which are its references.

::

    manifest.json                        the Ledger: what the lines add up to
    decisions.jsonl                      one Line per decision; each holds the digest of the one before
    models/round-0007.safetensors        a model that was accepted, in number at most the policy's history_limit

A decision is written in this order: the model's file, whole or not at all; the line; the manifest, whole or not at all.
So a killed process leaves either nothing of the decision but a file that no line names, or the decision. It stands once
its line is on the disk: where the disk is too full for the manifest, the next review writes it.

The digests have no key. Who may write to the folder could write matching ones, unless the manifest is signed (see
:mod:`fedmend.guard.signatures`) or a copy of it is kept elsewhere.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from fedmend.checkpoints import read_state, state_bytes
from fedmend.errors import DataError
from fedmend.files import naming, remove_leftovers, write_bytes
from fedmend.folder_locks import locked
from fedmend.guard.decisions import Line, Stored
from fedmend.guard.ledger import Accepted, Ledger, as_text, parsed
from fedmend.guard.weights import State, digest

_LEDGER = TypeAdapter(Ledger)


@dataclass(frozen=True)
class History:
    """The folder of a guard's history.

    Attributes:
        path: the folder; need not exist.
    """

    path: Path

    @property
    def manifest(self) -> Path:
        """The file that says what there is."""
        return self.path / "manifest.json"

    @property
    def decisions(self) -> Path:
        """The file of decisions."""
        return self.path / "decisions.jsonl"

    @property
    def models(self) -> Path:
        """The folder of accepted models."""
        return self.path / "models"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Within, no other guard uses the history.

        Raises:
            OutputError: another one does, or the folder can't be written.
        """
        with naming(self.path):
            self.models.mkdir(parents=True, exist_ok=True)
            with locked(self.models, f"guarding a federation with the history {self.path}"):
                yield

    def begin(self, seed: int) -> None:
        """Write the manifest of an empty history."""
        write_bytes(self.manifest, self.manifest_of(Ledger(seed)))

    def exists(self) -> bool:
        """Whether there is a history here, damaged or not."""
        return self.manifest.exists() or self.decisions.exists()

    def read(self) -> tuple[Ledger, Line | None]:
        """What the lines add up to, and the last of them; a last line that a killed process left torn is skipped.

        Raises:
            DataError: a file is missing, damaged, or not as the guard wrote it.
        """
        noted, last = self._manifest(), None
        ledger = before = Ledger(noted.seed)
        try:
            for number, text in enumerate(self._texts(), start=1):
                last = parsed(text, number)
                ledger = ledger.add(last, text)
                before = ledger if number <= noted.lines else before
        except DataError as error:
            raise DataError(f"{self.decisions} is not as the guard wrote it: {error}; restore it") from error
        # A process that was killed between a line and the manifest leaves one line more.
        if ledger.lines > noted.lines + 1 or before != noted:
            raise DataError(
                f"{self.decisions} is not what {self.manifest} was written for: {ledger.lines} decisions, "
                f"{noted.lines} of them expected; restore both"
            )
        return ledger, last

    def manifest_of(self, ledger: Ledger) -> bytes:
        """The manifest's content."""
        return _LEDGER.dump_json(ledger, indent=2)

    def recover(self, ledger: Ledger) -> None:
        """Finish what a killed process began, and remove what no line names; only within :meth:`locked`."""
        with naming(self.decisions):
            kept = sum(len(text) + 1 for text in self._texts())
            if self._size() > kept:
                self._cut(kept)
        if self._manifest() != ledger:
            write_bytes(self.manifest, self.manifest_of(ledger))
        self._tidy(ledger)

    def save_model(self, state: State, round_number: int | None, number: int) -> Stored:
        """Write the file of a model that is about to be accepted; the line that names it comes later.

        Raises:
            OutputError: it can't be written.
        """
        name = "start" if round_number is None else f"round-{round_number:04d}-{number}"
        content = state_bytes(state)
        file = f"{name}.safetensors"
        write_bytes(self.models / file, content)
        return Stored(number, file, hashlib.sha256(content).hexdigest(), digest(state))

    def append(self, line: Line, ledger: Ledger, before: Callable[[bytes], None] | None = None) -> Ledger:
        """Write a decision's line, which :meth:`finish` or :meth:`recover` follows; only within :meth:`locked`.

        Args:
            line: the decision. ledger: of the lines so far.
            before: called with the new manifest before anything is written.

        Raises:
            OutputError: it can't be written. The lines are as before.
        """
        text = as_text(line)
        after = ledger.add(parsed(text, ledger.lines + 1), text)
        if before is not None:
            before(self.manifest_of(after))
        with naming(self.decisions):
            size = self._size()
            try:
                with self.decisions.open("ab") as file:
                    file.write(text + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    self._cut(size)
                raise
        return after

    def finish(self, ledger: Ledger) -> None:
        """Write the manifest of all lines, and remove models that are no longer kept; only within :meth:`locked`.

        Raises:
            OutputError: it can't be written.
        """
        write_bytes(self.manifest, self.manifest_of(ledger))
        self._tidy(ledger)

    def load(self, accepted: Accepted) -> dict[str, Tensor]:
        """The weights of an accepted model, on the CPU.

        Raises:
            DataError: the file is missing, damaged, or not as the guard wrote it; the message names it.
        """
        path = self.models / accepted.stored.file
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"can't read {path}: {error.strerror}; restore it") from error
        if hashlib.sha256(content).hexdigest() != accepted.stored.sha256:
            raise DataError(f"{path} is not as the guard wrote it; restore it")
        state = read_state(path)
        if digest(state) != accepted.stored.weights:
            raise DataError(f"{path} holds other weights than the guard accepted; restore it")
        return state

    def lines(self) -> tuple[Line, ...]:
        """All decisions, in order; a last line that a killed process left torn is skipped.

        Raises:
            DataError: a line is damaged; :meth:`read` checks more.
        """
        try:
            return tuple(parsed(text, number) for number, text in enumerate(self._texts(), start=1))
        except DataError as error:
            raise DataError(f"{self.decisions} is not as the guard wrote it: {error}; restore it") from error

    def check(self) -> Ledger:
        """Verify everything: the chain of decisions, the manifest, and the files of all models that are kept.

        Raises:
            DataError: a file is missing, damaged, or not as the guard wrote it; the message names it.
        """
        ledger, _ = self.read()
        for accepted in ledger.models:
            self.load(accepted)
        return ledger

    def _manifest(self) -> Ledger:
        try:
            return _LEDGER.validate_json(self.manifest.read_bytes())
        except OSError as error:
            raise DataError(f"can't read {self.manifest}: {error.strerror}; restore it") from error
        except ValidationError as error:
            raise DataError(f"{self.manifest} is damaged; restore it") from error

    def _texts(self) -> Iterator[bytes]:
        """All whole lines without their ends, one after the other: there may be many."""
        try:
            with self.decisions.open("rb") as file:
                for text in file:
                    if text.endswith(b"\n"):
                        yield text[:-1]
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataError(f"can't read {self.decisions}: {error.strerror}; restore it") from error

    def _size(self) -> int:
        """Bytes of the file of decisions."""
        return self.decisions.stat().st_size if self.decisions.exists() else 0

    def _cut(self, size: int) -> None:
        """Shorten the file of decisions to this many bytes, on the disk as well."""
        with self.decisions.open("rb+") as file:
            file.truncate(size)
            os.fsync(file.fileno())

    def _tidy(self, ledger: Ledger) -> None:
        """Remove the files of models that are no longer kept."""
        remove_leftovers(self.path)
        remove_leftovers(self.models)
        kept = {each.stored.file for each in ledger.models}
        for file in self.models.glob("*.safetensors"):
            if file.name not in kept:
                with suppress(OSError):
                    file.unlink()
