"""Files with one JSON record per line, whose last line a killed process may leave torn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from fedmend.federation.digests import Digests
from fedmend.files import naming, write_text


class Record(Protocol):
    """A record of one round."""

    @property
    def round(self) -> int:
        """The round's number."""
        ...


_R = TypeVar("_R", bound=Record)


@dataclass(frozen=True)
class RecordLines(Generic[_R]):
    """A file of records, one line for each round.

    Attributes:
        path: the file.
        adapter: from a record to its line and back.
        digests: note each line that is written.
    """

    path: Path
    adapter: TypeAdapter[_R]
    digests: Digests

    def read(self) -> tuple[_R, ...]:
        """The records of all whole lines, by round. Torn lines are skipped; a round's last line wins."""
        if not self.path.exists():
            return ()
        found = {}
        for line in self.path.read_bytes().splitlines():
            try:
                record = self.adapter.validate_json(line)
            except ValidationError:
                continue
            found[record.round] = record
        return tuple(found[number] for number in sorted(found))

    def append(self, record: _R) -> None:
        """Add a line.

        Raises:
            OutputError: it can't be written.
        """
        line = self.adapter.dump_json(record)
        with naming(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.digests.record(self._name(record), line)
            with self.path.open("ab") as file:
                file.write(line + b"\n")

    def tidy(self, last_round: int | None) -> None:
        """Sort the lines; drop torn ones and those after ``last_round`` (None: all)."""
        if self.path.exists():
            kept = [record for record in self.read() if last_round is not None and record.round <= last_round]
            write_text(self.path, "".join(self._lines(kept)))

    def contents(self) -> Iterable[tuple[str, bytes]]:
        """Each whole line with its name among the digests."""
        return ((self._name(record), self.adapter.dump_json(record)) for record in self.read())

    def _name(self, record: _R) -> str:
        return f"{self.path.name} round {record.round}"

    def _lines(self, records: Iterable[_R]) -> Iterable[str]:
        return (self.adapter.dump_json(record).decode() + "\n" for record in records)


def without_none(line: dict[str, object], key: str) -> dict[str, object]:
    """A line without a field that is None: so a run without a guard has the lines that it always had."""
    return {name: value for name, value in line.items() if name != key or value is not None}
