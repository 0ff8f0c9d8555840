"""Writes results atomically."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fedmend.errors import OutputError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then move it into place.

    On any failure, Ctrl-C and a full disk included, an earlier file at ``path`` is left unchanged and the temporary
    one is removed.

    Raises:
        OutputError: the folder or the file can't be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"can't write {path}: {error.strerror or error}; choose a writable folder with free space"
        ) from error
    finally:
        if temporary is not None:
            with suppress(OSError):  # the folder may be gone, or read-only by now
                temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, lone surrogates as escapes (see :func:`write_atomically`)."""
    write_atomically(path, lambda temporary: _write(temporary, text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
