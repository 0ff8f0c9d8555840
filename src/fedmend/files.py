"""Writes results: each file whole or not at all, and those of one command together."""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from fedmend.errors import OutputError
from fedmend.folder_locks import is_in_use, locked, mark_in_use

Content = str | Callable[[Path], None]
"""A file's text, or a function that writes the file at a path."""

_WAIT_SECONDS = 10.0
_NEW, _OLD, _KEPT, _UNDO = "new", "old", "kept", "undo.json"
_EARLIER = re.compile(r"earlier-[1-9]\d*")


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then move it into place.

    On any failure, Ctrl-C and a full disk included, an earlier file at ``path`` is left unchanged and the temporary
    one is removed. What a killed process left of an earlier attempt is removed, too.

    Raises:
        OutputError: the folder or the file can't be written.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, glob.escape(path.name))
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            mark_in_use(handle)
            write(temporary)
            _make_durable(temporary)
            temporary.replace(path)
        finally:
            os.close(handle)
            with suppress(OSError):  # the folder may be gone, or read-only by now
                temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, lone surrogates as escapes (see :func:`write_atomically`)."""
    write_atomically(path, lambda temporary: _write(temporary, text))


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes (see :func:`write_atomically`)."""
    write_atomically(path, lambda temporary: _write_bytes(temporary, content))


def write_together(
    folder: Path, files: Mapping[str, Content], remove: Iterable[str] = (), reports: Collection[str] = ()
) -> Path | None:
    """Write the results of one command: all of them, or on any failure none.

    The files are first written to a hidden folder in ``folder``, then all move into place. If a move fails, or the
    process is killed between two, the earlier files come back: at once, or in the next call for this folder.

    Args:
        folder: made if needed.
        files: by name, which may be in a sub-folder, such as ``attacker/evaluation.json``.
        remove: names of earlier results to remove with the moves; they need not be there, and those in ``files`` stay.
        reports: names of results. If one of them is there and is replaced or removed, all that is replaced or removed
            is kept in a new folder in ``folder``, ``earlier-1`` or with the next free number.

    Returns:
        The folder of what was kept, or None.

    Raises:
        OutputError: a file can't be written, or another process is writing to the folder for a long time.
    """
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, f"writing results to {folder}", _WAIT_SECONDS):
            _tidy(folder)
            staging = Path(tempfile.mkdtemp(dir=folder, prefix=".results-", suffix=".tmp"))
            try:
                for name, content in files.items():
                    _stage(content, staging / _NEW / name, folder / name)
                gone = [name for name in remove if name not in files]
                kept = _kept(staging, folder, [*files, *gone], reports)
                _move(staging, folder, [*files], gone, kept)
            finally:
                _undo(staging, folder)
    return None if kept is None else folder / kept


def undo_unfinished(folder: Path) -> None:
    """Bring back the earlier results where a process was killed in :func:`write_together`, before they are read.

    A folder that can't be written, or that another process is writing to, stays as it is.
    """
    with suppress(OSError, OutputError), locked(folder, f"writing results to {folder}", _WAIT_SECONDS):
        _tidy(folder)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove the temporary files that killed processes left, but none that is being written.

    Args:
        folder: where to look; need not exist.
        name: a pattern for the names of the files that were to be written.
    """
    for left in folder.glob(f".{name}.*.tmp"):
        if left.is_file() and not is_in_use(left):
            with suppress(OSError):
                left.unlink()


def _stage(content: Content, staged: Path, path: Path) -> None:
    """Write a file that is to move to ``path``, which errors name."""
    with naming(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        staged.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write(staged, content) if isinstance(content, str) else content(staged)
        except OutputError as error:
            raise OutputError(str(error).replace(str(staged), str(path))) from error
        _make_durable(staged)


def _kept(staging: Path, folder: Path, names: list[str], reports: Collection[str]) -> str | None:
    """Prepare a folder of what is to be replaced or removed, if a report is among it; its name."""
    if not any(name in reports and os.path.lexists(folder / name) for name in names):
        return None
    for name in names:
        with naming(folder / name):
            _keep(folder / name, staging / _KEPT / name)
    numbers = (int(path.name.partition("-")[2]) for path in folder.iterdir() if _EARLIER.fullmatch(path.name))
    return f"earlier-{max(numbers, default=0) + 1}"


def _move(staging: Path, folder: Path, new: list[str], gone: list[str], kept: str | None) -> None:
    """Move the staged files into place; while ``undo.json`` is there, :func:`_undo` takes it back."""
    for name in (*new, *gone):
        with naming(folder / name):
            _keep(folder / name, staging / _OLD / name)
    _write(staging / "names.json", json.dumps({"moved": [*new, *gone], "kept": kept}))
    (staging / "names.json").replace(staging / _UNDO)
    if kept is not None:
        with naming(folder / kept):
            (staging / _KEPT).replace(folder / kept)
    for name in new:
        with naming(folder / name):
            (staging / _NEW / name).replace(folder / name)
    for name in gone:
        with naming(folder / name):
            (folder / name).unlink(missing_ok=True)
    (staging / _UNDO).unlink()


def _keep(path: Path, copy: Path) -> None:
    """Have a second name for a file, if it is there; a copy where the file system has no such links."""
    if os.path.lexists(path):
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, copy, follow_symlinks=False)
        except (OSError, NotImplementedError):
            shutil.copy2(path, copy, follow_symlinks=False)


def _undo(staging: Path, folder: Path) -> None:
    """Take back the moves of a call that didn't end, and remove its staged files; they stay if that fails."""
    with suppress(OSError):
        moved, kept = _to_undo(staging)
        if kept is not None and not os.path.lexists(staging / _KEPT):
            (folder / kept).replace(staging / _KEPT)
        for name in moved:
            path, old = folder / name, staging / _OLD / name
            if not path.parent.resolve().is_relative_to(folder.resolve()):
                continue  # not a name of ours
            if os.path.lexists(old):
                old.replace(path)
            elif not os.path.lexists(staging / _NEW / name):
                path.unlink(missing_ok=True)
        (staging / _UNDO).unlink(missing_ok=True)
        shutil.rmtree(staging, ignore_errors=True)


def _to_undo(staging: Path) -> tuple[list[str], str | None]:
    """The names that were moving, if any, and that of the folder of what was kept."""
    try:
        undo = json.loads((staging / _UNDO).read_text(encoding="utf-8"))
        moved, kept = undo["moved"], undo["kept"]
        valid = kept is None or _EARLIER.fullmatch(kept) is not None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return [], None
    if not isinstance(moved, list) or not valid:
        return [], None
    return [name for name in moved if isinstance(name, str)], kept


def _tidy(folder: Path) -> None:
    """Take back what killed processes left half done; the folder is locked, so that none of them is alive."""
    for left in folder.glob(".results-*.tmp"):
        if left.is_dir() and not left.is_symlink():
            _undo(left, folder)
    remove_leftovers(folder)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within, an error of the system becomes one that says that ``path`` can't be written.

    Raises:
        OutputError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"can't write {path}: {error.strerror or error}; choose a writable folder with free space"
        ) from error


def _make_durable(path: Path) -> None:
    """Have a new file on the disk, with the permissions of an ordinary one."""
    with path.open("rb") as written:
        os.fsync(written.fileno())
    path.chmod(0o666 & ~_umask())


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
