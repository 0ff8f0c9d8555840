"""Reads NumPy's ``.npz`` archives, compressed ones as well, without pickles; the values stay in the file."""

from __future__ import annotations

import io
import math
import re
import zipfile
import zlib
from typing import IO

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from fedmend.checkpoints.stored_tensors import Entry, StoredTensor, UnusableTensor, bytes_of
from fedmend.checkpoints.wording import short
from fedmend.errors import CheckpointError

_MOST_ARRAYS = 10_000
_HEADER = 16 * 2**10
_PIECE = 2**20
_NUMBERED = re.compile(r"arr_(\d{1,6})")


def read_arrays(archive: zipfile.ZipFile) -> dict[str, Entry] | list[Entry]:
    """The arrays of an ``.npz`` file: by name, or in order if they are ``arr_0``, ``arr_1`` and so on.

    Raises:
        ValueError: it is damaged.
    """
    if len(archive.infolist()) > _MOST_ARRAYS:
        raise ValueError(f"more than {_MOST_ARRAYS} arrays")
    arrays = {}
    for entry in archive.infolist():
        if entry.filename.endswith(".npy"):
            arrays[entry.filename.removesuffix(".npy")] = _read_array(archive, entry)
    numbers = {int(match[1]): name for name in arrays if (match := _NUMBERED.fullmatch(name))}
    if len(numbers) == len(arrays) and set(numbers) == set(range(len(arrays))):
        return [arrays[numbers[number]] for number in range(len(arrays))]
    return arrays


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Entry:
    with archive.open(entry) as content:
        beginning = io.BytesIO(content.read(_HEADER))
    version = npy.read_magic(beginning)
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read_header is None:
        raise ValueError(f"an array of version {version}")
    shape, columns_first, kind = read_header(beginning)
    if kind.hasobject:
        return UnusableTensor("an array of pickled objects")
    try:
        dtype = torch.from_numpy(np.empty(0, kind)).dtype
    except (TypeError, ValueError):
        return UnusableTensor(f"an array of type {kind.str[:20]}")
    start, nbytes = beginning.tell(), math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or start + nbytes != entry.file_size:
        raise ValueError("an array is larger or smaller than its entry")

    def load() -> Tensor:
        flat = torch.empty(math.prod(shape), dtype=dtype)
        try:
            with archive.open(entry) as content:
                content.read(start)
                _fill(flat, content)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise CheckpointError(f"an array is damaged ({short(error)}); copy the file again") from error
        if dtype == torch.bool:
            flat = flat.view(torch.uint8) != 0  # a byte may hold any value
        return (
            flat.reshape(shape[::-1]).permute(*range(len(shape))[::-1]).contiguous()
            if columns_first
            else flat.reshape(shape)
        )

    return StoredTensor(dtype, tuple(shape), (entry.header_offset,), load)


def _fill(flat: Tensor, content: IO[bytes]) -> None:
    view = bytes_of(flat)
    for begin in range(0, len(view), _PIECE):
        piece = view[begin : begin + _PIECE]
        read = content.read(len(piece))
        if len(read) < len(piece):
            raise CheckpointError("an array is cut short; copy the file again")
        piece[:] = read
