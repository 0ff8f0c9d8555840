"""Digests of what a run wrote, by which changes made by others are noticed.

They have no key: whoever may write to the folder and knows how could write matching ones. Against that, keep a copy of
``digests.jsonl`` elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError

from fedmend.errors import ConfigError
from fedmend.files import naming

_SHOWN = 4


@dataclass(frozen=True)
class _Digest:
    """One line of ``digests.jsonl``.

    Attributes:
        name: of a file in the folder, or of a line, such as ``rounds.jsonl round 7``.
        sha256: of its content; "" once it was removed.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")]


_LINE = TypeAdapter(_Digest)


@dataclass(frozen=True)
class Digests:
    """The file ``digests.jsonl`` in a run's folder or in its folder ``attacker``.

    A digest is written before what it is of, so that a killed run leaves nothing without one.

    Attributes:
        path: the file.
    """

    path: Path

    def record(self, name: str, content: bytes | None) -> None:
        """Note what is about to be written, or with None removed.

        Raises:
            OutputError: the file can't be written.
        """
        digest = "" if content is None else digest_of(content)
        if self.known().get(name, [None])[-1] == digest:
            return
        line = json.dumps({"name": name, "sha256": digest}).encode() + b"\n"
        with naming(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            earlier = self.path.read_bytes() if self.path.exists() else b""
            with self.path.open("ab") as file:
                file.write(b"\n" + line if earlier and not earlier.endswith(b"\n") else line)

    def known(self) -> dict[str, list[str]]:
        """All digests by name, the newest last; lines torn by a killed run are skipped."""
        found: dict[str, list[str]] = {}
        for line in self.path.read_bytes().splitlines() if self.path.exists() else ():
            try:
                digest = _LINE.validate_json(line)
            except ValidationError:
                continue
            found.setdefault(digest.name, []).append(digest.sha256)
        return found

    def check(self, contents: Iterable[tuple[str, bytes | None]]) -> None:
        """Refuse what is not as it was written.

        Args:
            contents: names, each with what is there now; None: nothing is, and something may be missing.

        Raises:
            ConfigError: it names what was changed, is missing or was never written by this run.
        """
        if not self.path.exists():
            raise ConfigError(
                f"{self.path} is missing, without which changes to the run can't be noticed; restore it, or choose "
                "another folder. If the run is of an earlier version, RunFolder(path).accept() takes it as it is"
            )
        known = self.known()
        wrong = []
        for name, content in contents:
            digests = known.get(name, [])
            if content is None:
                wrong += [f"{name} (missing)"] if digests and digests[-1] else []
            elif not digests:
                wrong.append(f"{name} (not written by this run)")
            elif digest_of(content) not in digests:
                wrong.append(f"{name} (changed)")
        if wrong:
            more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            raise ConfigError(
                f"{self.path.parent} is not as the run wrote it: {', '.join(wrong[:_SHOWN])}{more}; restore it, or "
                "choose another folder"
            )


def digest_of(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
