"""Reads what ``torch.save`` writes, without unpickling: zip archives, and the older files of several pickles."""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass
from typing import Any, BinaryIO

from fedmend.checkpoints.pickle_parsing import Global, PickleParser
from fedmend.checkpoints.stored_tensors import Span
from fedmend.checkpoints.torch_pickles import STORAGES, Storage, torch_meaning
from fedmend.errors import CheckpointError

_LARGEST_PICKLE = 32 * 2**20
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_LOCAL_HEADER = struct.Struct("<4s22xHH")


@dataclass(frozen=True)
class Pickled:
    """What a file's pickle holds.

    Attributes:
        value: dicts, lists, numbers, texts, tensors that are still in the file, and opaque objects.
        names: all that unpickling would import.
    """

    value: object
    names: frozenset[str]


def read_archive(file: BinaryIO, archive: zipfile.ZipFile) -> Pickled:
    """Read a zip archive of ``torch.save``; its entries are uncompressed and don't overlap.

    Raises:
        ValueError: it is damaged. CheckpointError: it is too large or big-endian; the message continues "FILE ...".
    """
    entries = {entry.filename: entry for entry in archive.infolist()}
    root = next(name for name in entries if name.endswith("/data.pkl")).removesuffix("data.pkl")
    order = entries.get(f"{root}byteorder")
    if order is not None and _content(file, order, 16) != b"little":
        raise CheckpointError("holds big-endian numbers; save the weights as a .safetensors file")

    def persistent(reference: Any) -> Storage | None:
        kind, storage, key, _, count = reference
        entry = entries.get(f"{root}data/{key}") if type(key) is str else None
        if kind != "storage" or entry is None or type(count) is not int:
            raise ValueError("a tensor's values are not in the file")
        return _storage(storage, Span(file, _start(file, entry), entry.file_size), count)

    content = _content(file, entries[f"{root}data.pkl"], _LARGEST_PICKLE)
    parser = PickleParser(io.BytesIO(content), torch_meaning(persistent))
    return Pickled(parser.parse(), frozenset(parser.names))


def read_pickles(file: BinaryIO, size: int) -> Pickled:
    """Read a file of ``torch.save`` before torch 1.6: pickles, then the storages one after the other.

    A file of one pickle without tensors of torch's, as ``pickle.dump`` writes it, is read, too.

    Raises:
        ValueError: it is damaged.
    """
    file.seek(0)
    stream = io.BytesIO(file.read(min(size, _LARGEST_PICKLE)))
    found: dict[str, tuple[object, int]] = {}  # the storages' types and numbers of elements, by key
    starts: dict[str, Span] = {}

    def persistent(reference: Any) -> object:
        kind, storage, *rest = reference
        if kind == "module":
            return storage
        key, _, count, view = rest
        if kind != "storage" or type(key) is not str or type(count) is not int:
            raise ValueError("a reference to something else than a storage")
        if key not in starts:  # the first of two passes: only the pickles' ends tell where storages are
            found[key] = (storage, count)
            return None
        return _storage(storage, _view(storage, starts[key], view), count if view is None else view[2])

    def parser() -> PickleParser:
        stream.seek(0)
        return PickleParser(stream, torch_meaning(persistent))

    first = parser()
    value = first.parse()
    if value != _MAGIC:
        return Pickled(value, frozenset(first.names))
    if first.parse() != _VERSION:
        raise ValueError("an unknown version")
    first.parse()  # the machine that wrote it
    first.parse()
    keys = first.parse()
    position = stream.tell()
    if type(keys) is not list or set(found) != {key for key in keys if type(key) is str}:
        raise ValueError("storages are missing")
    for key in keys:
        storage, count = found[key]
        file.seek(position)
        (written,) = struct.unpack("<q", file.read(8))
        nbytes = count * _width(storage)
        if written != count or nbytes < 0 or position + 8 + nbytes > size:
            raise ValueError("a storage is larger than the file")
        starts[key] = Span(file, position + 8, nbytes)
        position += 8 + nbytes
    second = parser()
    for _ in range(3):
        second.parse()
    return Pickled(second.parse(), frozenset(first.names))


def _storage(storage: object, span: Span, count: int) -> Storage:
    name = _storage_name(storage)
    if count * _width(storage) > span.nbytes:
        raise ValueError("a storage is larger than its part of the file")
    return STORAGES.get(name), span


def _storage_name(storage: object) -> str:
    return storage.name.rpartition(".")[2] if isinstance(storage, Global) else ""


def _width(storage: object) -> int:
    dtype = STORAGES.get(_storage_name(storage))
    return 1 if dtype is None else dtype.itemsize


def _view(storage: object, span: Span, view: Any) -> Span:
    if view is None:
        return span
    _, offset, count = view
    width = _width(storage)
    if not (type(offset) is type(count) is int and offset >= 0 <= count):
        raise ValueError("a view of no storage")
    if (offset + count) * width > span.nbytes:
        raise ValueError("a view is larger than its storage")
    return Span(span.file, span.start + offset * width, count * width)


def _start(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Where an entry's content begins: behind a header of its own, whose length only the header tells."""
    file.seek(entry.header_offset)
    magic, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if magic != b"PK\3\4":
        raise ValueError("an entry of the archive is missing")
    return int(entry.header_offset + _LOCAL_HEADER.size + name + extra)


def _content(file: BinaryIO, entry: zipfile.ZipInfo, most: int) -> bytes:
    if entry.file_size > most:
        raise CheckpointError(
            f"holds {entry.file_size} bytes of pickled data beside the tensors, at most {most} are read; "
            "save the weights alone"
        )
    file.seek(_start(file, entry))
    content = file.read(entry.file_size)
    if len(content) < entry.file_size:
        raise ValueError("an entry of the archive is cut short")
    return content
