"""What a process leaves behind if it is killed, for each moment of its work: a copy of its folder.

SIGKILL loses nothing that the system was given to write, so the folder as it is at a moment is what a process leaves
that is killed then. The moments are in the middle of every write, and before and after every move or removal of a file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Moment = Callable[[], None]


class Torn:
    """A file that is written in two halves."""

    def __init__(self, file: Any, moment: Moment) -> None:
        self.file, self.moment = file, moment

    def __enter__(self) -> Torn:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, content: bytes) -> None:
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        self.moment()
        self.file.write(content[len(content) // 2 :])


@contextmanager
def copied_at_every_moment(folder: Path, copies: Path) -> Iterator[Moment]:
    """Within, the folder is copied to ``copies/000``, ``copies/001``, ... at each moment at which it has changed.

    Yields:
        What copies it if it has changed, for moments other than those of files.
    """
    seen: dict[Path, bytes | None] = {}

    def moment() -> None:
        nonlocal seen
        found = {
            path.relative_to(folder): path.read_bytes() if path.is_file() else None
            for path in folder.rglob("*")
        }
        if found and found != seen:
            shutil.copytree(folder, copies / f"{len(list(copies.glob('*'))):03d}")
            seen = found

    with pytest.MonkeyPatch.context() as patched:
        _tear_writes(patched, moment)
        _surround(patched, "replace", moment)
        _surround(patched, "unlink", moment)
        yield moment


def _tear_writes(patched: pytest.MonkeyPatch, moment: Moment) -> None:
    open_file = Path.open

    def opened(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        return Torn(open_file(path, mode), moment) if mode == "ab" else open_file(path, mode, *rest, **named)

    def written(path: Path, content: bytes | str, **_: Any) -> None:
        content = content.encode() if isinstance(content, str) else content
        with Torn(open_file(path, "wb"), moment) as file:
            file.write(content)

    patched.setattr(Path, "open", opened)
    patched.setattr(Path, "write_bytes", written)
    patched.setattr(Path, "write_text", written)


def _surround(patched: pytest.MonkeyPatch, name: str, moment: Moment) -> None:
    """Have a moment before and after each call of a method of paths."""
    original = getattr(Path, name)

    def surrounded(path: Path, *arguments: Any, **named: Any) -> Any:
        moment()
        result = original(path, *arguments, **named)
        moment()
        return result

    patched.setattr(Path, name, surrounded)
