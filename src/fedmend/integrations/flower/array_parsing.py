"""Arrays that clients sent, parsed without trusting what they say of themselves."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from flwr.app import Array

from fedmend.integrations.averaged_weights import in_torch

_LONGEST_HEADER = 1024


def parsed(array: object, most_bytes: int) -> np.ndarray | None:
    """The values of an array of integers, booleans or floats that torch can take; None if it isn't one.

    The header of the stored bytes is read first, so that a small message can't ask for much memory.

    Args:
        array: a client's; may be anything.
        most_bytes: the most that the values may take.
    """
    if type(array) is not Array or array.stype != "numpy.ndarray" or type(array.data) is not bytes:
        return None
    if len(array.data) > most_bytes + _LONGEST_HEADER:
        return None
    stream = BytesIO(array.data)
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            return None
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=_LONGEST_HEADER)
        rest = len(array.data) - stream.tell()
        if not in_torch(dtype) or rest != int(np.prod(shape, dtype=object)) * dtype.itemsize:
            return None
        stream.seek(0)
        values: np.ndarray = np.load(stream, allow_pickle=False)
    except Exception:  # a malformed header raises whatever NumPy's and Python's parsers raise
        return None
    return values
