"""How much a source may unpack to; more is refused before it is read."""

from __future__ import annotations

import stat
from pathlib import Path

from fedmend.errors import DataError

LARGEST_PART = 2**28
"""Bytes of one page of a parquet file or of one array other than the images, unpacked."""

LARGEST_IMAGE = 2**26
"""Pixels of one encoded image."""

MOST_IMAGES = 10_000_000

_ALWAYS = 2**29


def check_unpacked(unpacked: int, stored: int, what: str, factor: int = 20) -> None:
    """Refuse what unpacks to more than 512 MiB and more than ``factor`` times what is stored.

    Args:
        unpacked: bytes, or pixels.
        stored: bytes in the file.
        what: what unpacks, for the error.

    Raises:
        DataError: it does.
    """
    if unpacked > max(_ALWAYS, factor * stored):
        raise DataError(
            f"{what} would unpack to {unpacked / 2**30:.2g} GiB from {stored / 2**20:.2g} MiB; expected at most "
            f"512 MiB, or {factor} times as much as is stored; use fewer or smaller images"
        )


def check_is_file(path: Path) -> None:
    """Refuse pipes, devices and sockets, which may never end.

    Raises:
        DataError: ``path`` is one. OSError: it can't be looked at.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise DataError(f"{path} is not a regular file; copy the data to one first")
