"""How large the pages of a parquet file are when they are unpacked, told before anything is.

The sizes in a file's footer may lie; a reader allocates what each page's own header says. Headers are Thrift structs in
the compact protocol, see https://parquet.apache.org/docs/file-format/data-pages/.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from fedmend.data.limits import LARGEST_PART, check_unpacked
from fedmend.errors import DataError

_UNPACKED, _STORED = 2, 3  # fields of a page's header
_WINDOWS = (2**14, 2**24)  # bytes in which a header is looked for; readers give up after 16 MiB, too
_MOST_PAGES = 1_000_000
_DEEPEST = 16


def largest_page(path: Path, chunks: Iterable[Any]) -> int:
    """The size in bytes of the largest page, unpacked.

    Args:
        path: the parquet file.
        chunks: the metadata of the column chunks that are to be read.

    Raises:
        DataError: a page is larger than 256 MiB, or all together are much larger than the file.
        EOFError: a header is damaged.
    """
    largest, total, pages, stored = 0, 0, 0, path.stat().st_size
    with path.open("rb") as file:
        for chunk in chunks:
            position = chunk.data_page_offset
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < position:
                position = chunk.dictionary_page_offset
            end = position + chunk.total_compressed_size
            while position < end:
                header, length = _header(file, position)
                position += length + header.get(_STORED, 0)
                largest, total = max(largest, header.get(_UNPACKED, 0)), total + header.get(_UNPACKED, 0)
                pages += 1
                if largest > LARGEST_PART or pages > _MOST_PAGES:
                    raise DataError(
                        f"{path} has a page of {largest / 2**20:.0f} MiB, or more than {_MOST_PAGES:,} pages; expected "
                        f"at most {LARGEST_PART / 2**20:.0f} MiB in a page; write it again with smaller row groups"
                    )
                check_unpacked(total, stored, str(path))
    return largest


def _header(file: Any, position: int) -> tuple[dict[int, int], int]:
    """The numbers in the page header at a position, by field, and the header's length in bytes."""
    for window in _WINDOWS:
        file.seek(position)
        stream = BytesIO(file.read(window))
        try:
            header = _struct(stream, 0)
        except EOFError:
            continue
        if not all(0 <= header.get(field, 0) < 2**31 for field in (_UNPACKED, _STORED)):
            raise EOFError("a page's header has a size out of range")
        return header, stream.tell()
    raise EOFError("a page's header is damaged")


def _struct(stream: BytesIO, depth: int) -> dict[int, int]:
    fields: dict[int, int] = {}
    number = 0
    while head := _byte(stream):
        number = number + (head >> 4) if head >> 4 else _signed(stream)
        if number in fields or not 0 < number < 2**15:  # readers might take another of both, or wrap around
            raise EOFError("a page's header is damaged")
        fields[number] = _value(stream, head & 15, depth)
    return fields


def _value(stream: BytesIO, kind: int, depth: int) -> int:
    """Read a value; what is no whole number counts as 0."""
    if depth > _DEEPEST:
        raise EOFError("a page's header is nested too deeply")
    if kind in (4, 5, 6):
        return _signed(stream)
    if kind in (3, 7):
        stream.seek(1 if kind == 3 else 8, 1)
    elif kind == 8:
        stream.seek(_unsigned(stream), 1)
    elif kind == 12:
        _struct(stream, depth + 1)
    elif kind not in (1, 2):  # among others lists and maps, which headers don't have
        raise EOFError("a page's header is damaged")
    return 0


def _byte(stream: BytesIO) -> int:
    read = stream.read(1)
    if not read:
        raise EOFError("a page's header is cut short")
    return read[0]


def _unsigned(stream: BytesIO) -> int:
    value = shift = 0
    while True:
        byte = _byte(stream)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
        shift += 7
        if shift > 63:
            raise EOFError("a page's header is damaged")


def _signed(stream: BytesIO) -> int:
    value = _unsigned(stream)
    return (value >> 1) ^ -(value & 1)
