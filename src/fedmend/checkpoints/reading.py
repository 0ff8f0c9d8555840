"""Reads model files, which may come from anyone and may be hostile.

A file is data: no code in it is run, and no architecture is read from it. Cheap checks come first: the kind of file,
whether its table of contents is consistent, then names, types and shapes. :mod:`fedmend.checkpoints.fitting` compares
those with the model before a value is read. Pickles are parsed (:mod:`fedmend.checkpoints.pickle_parsing`), and files
are read rather than mapped, since a mapped file that is cut short ends the process.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from fedmend.checkpoints.file_contents import FileContents, from_value
from fedmend.checkpoints.file_kinds import kind_of_archive, refuse_other_kinds
from fedmend.checkpoints.foreign_objects import check_objects
from fedmend.checkpoints.npz_files import read_arrays
from fedmend.checkpoints.plain_tensors import DTYPES
from fedmend.checkpoints.safetensors_files import read_header
from fedmend.checkpoints.stored_tensors import StoredTensor
from fedmend.checkpoints.torch_files import Pickled, read_archive, read_pickles
from fedmend.checkpoints.wording import listed, short, shown, unusable
from fedmend.errors import CheckpointError

_LARGEST_FILE = 8 * 2**30
_LARGEST_DIRECTORY = 8 * 2**20
_ADVICE = "ask for the weights as a .safetensors file"


def read_state(path: Path | str, *, key: str | None = None) -> dict[str, Tensor]:
    """Read the weights in a model file, without running any code in it.

    Accepts safetensors, files of ``torch.save`` and ``.npz`` files that hold one ``state_dict``, under any key.
    Names are as in the file; :func:`load_checkpoint` compares them with a model's.

    Args:
        path: the file.
        key: of the state dict to read, where there are several; keys within keys are joined by dots.

    Returns:
        Names to dense real tensors on the CPU, which share no memory with each other or with the file. The
        values may still be NaN and the shapes those of another architecture: :func:`load_into` checks that.

    Raises:
        CheckpointError: the file is missing, damaged or hostile, or holds something else.
    """
    with open_contents(path) as contents:
        states = contents.under(key).states()
        if len(states) > 1:
            raise CheckpointError(
                f"{path} holds several state dicts: {listed(states, 6)}; choose one by its key"
            )
        if not states:
            raise CheckpointError(f"{path} holds no state_dict, but tensors without names")
        (state,) = states.values()
        total = 0
        for name, entry in state.items():
            kind = f"of type {entry.dtype}" if isinstance(entry, StoredTensor) else entry.kind
            if not isinstance(entry, StoredTensor) or entry.dtype not in DTYPES:
                raise CheckpointError(f"{path}: {unusable(name, kind)}")
            total += entry.nbytes
            if total > 4 * contents.size:
                raise CheckpointError(
                    f"{path} claims the shape {shown(entry.shape)} for {shown(name)}, more than the file "
                    f"holds; it is damaged or made to exhaust memory: {_ADVICE}"
                )
        return {name: entry.load() for name, entry in state.items() if isinstance(entry, StoredTensor)}


@contextmanager
def open_contents(path: Path | str) -> Iterator[FileContents]:
    """What a model file holds, while it is open; see :class:`FileContents`.

    Raises:
        CheckpointError: the file is missing, damaged or hostile, or holds no weights.
    """
    path = Path(path)
    try:
        size = _size(path)
        with path.open("rb") as file:
            yield _contents(path, file, size)
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "not enough memory"
        raise CheckpointError(f"can't read {path}: {reason}") from error


def _size(path: Path) -> int:
    if not path.exists():
        raise CheckpointError(f"there is no file {path}; check the name")
    if path.is_dir():
        raise CheckpointError(
            f"{path} is not a file; name the model file itself. A checkpoint in a folder, as DeepSpeed and FSDP write "
            "them, must be consolidated into one file first"
        )
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file but a pipe or a device; name the model file itself")
    size = path.stat().st_size
    if size == 0:
        raise CheckpointError(f"{path} is empty; copy it again")
    if size > _LARGEST_FILE:
        raise CheckpointError(f"{path} has {size} bytes; fedmend reads model files up to {_LARGEST_FILE}")
    return size


def _contents(path: Path, file: BinaryIO, size: int) -> FileContents:
    head = file.read(512)
    is_safetensors = _looks_like_safetensors(path, head)
    try:
        refuse_other_kinds(head)
        if is_safetensors:
            contents = from_value(read_header(file, size), size)
        elif head.startswith(b"PK"):
            contents = _archive_contents(file, size)
        else:
            contents = _pickled_contents(read_pickles(file, size), size)
    except CheckpointError as error:
        raise CheckpointError(f"{path} {error}") from error
    except (OSError, MemoryError):
        raise
    except Exception as error:
        what = "not an intact safetensors file" if is_safetensors else "damaged or not a model file"
        raise CheckpointError(
            f"{path} is {what} ({short(error)}): expected safetensors, a state_dict written by torch.save, or "
            "arrays by numpy.savez; copy it again"
        ) from error
    if not contents.entries and not contents.lists:
        raise CheckpointError(f"{path} holds no tensors; expected a state_dict, or a dict with one in it")
    return contents


def _looks_like_safetensors(path: Path, head: bytes) -> bool:
    if head[8:9] == b"{":
        return True
    return path.suffix.lower() == ".safetensors" and not head.startswith((b"PK", b"\x80"))


def _pickled_contents(pickled: Pickled, size: int) -> FileContents:
    contents = from_value(pickled.value, size)
    check_objects(pickled, contents)
    return contents


def _archive_contents(file: BinaryIO, size: int) -> FileContents:
    archive = zipfile.ZipFile(_Directory(file, size))
    entries = archive.infolist()
    if len({entry.filename for entry in entries}) < len(entries):
        raise CheckpointError(f"names an entry twice, which neither torch nor NumPy does; {_ADVICE}")
    overlapping = sum(entry.compress_size for entry in entries) > size
    kind = "torch" if overlapping else kind_of_archive(archive)
    compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if overlapping or (compressed and kind == "torch"):
        raise CheckpointError(
            f"holds compressed or overlapping entries, which torch.save never writes and which could exhaust memory; "
            f"{_ADVICE}"
        )
    if kind == "torch":
        return _pickled_contents(read_archive(file, archive), size)
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
        raise CheckpointError("is compressed as numpy.savez never does; save it again")
    return from_value(read_arrays(archive), size)


class _Directory(io.RawIOBase):
    """A file for :mod:`zipfile`, which refuses to read a table of contents that is too large for a model's."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def read(self, size: int = -1, /) -> bytes:
        """Read ``size`` bytes, or what is left."""
        size = self._size - self._file.tell() if size < 0 else size
        if size > _LARGEST_DIRECTORY:
            raise ValueError("its table of contents is too large")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The position."""
        return self._file.tell()

    def seekable(self) -> bool:
        """True."""
        return True
