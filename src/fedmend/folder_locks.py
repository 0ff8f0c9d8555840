"""Locks that end with their process, however it ends; where the system has none, nothing is locked."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmend.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TAKEN = (errno.EWOULDBLOCK, errno.EACCES)
_PAUSE = 0.05


@contextmanager
def locked(folder: Path, doing: str, seconds: float = 0) -> Iterator[None]:
    """Within, no other process, and no other call here, is in this block for the same folder.

    Args:
        folder: it exists.
        doing: what the others do, for the message, such as "writing results to out".
        seconds: how long to wait for the others.

    Raises:
        OutputError: another one is in the block, and stays for that long. OSError: the folder can't be opened.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + seconds
        while not _lock(handle):
            if time.monotonic() >= deadline:
                raise OutputError(
                    f"another fedmend is {doing}; wait until it has ended, or choose another folder"
                )
            time.sleep(_PAUSE)
        yield
    finally:
        os.close(handle)


def mark_in_use(handle: int) -> None:
    """Let others see that an open file is in use, until it is closed or this process ends."""
    if fcntl is not None:
        _lock(handle)


def is_in_use(path: Path) -> bool:
    """Whether a process has marked the file as in use; True where that can't be known."""
    if fcntl is None:
        return True
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _lock(handle: int) -> bool:
    """Whether the file is ours now; also True where it can't be locked, as on some network drives."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _TAKEN
    return True
