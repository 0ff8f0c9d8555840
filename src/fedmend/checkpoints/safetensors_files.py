"""Reads the header of a safetensors file; the values stay in the file."""

from __future__ import annotations

import json
import math
from typing import Any, BinaryIO

import torch

from fedmend.checkpoints.stored_tensors import Entry, Span, UnusableTensor, contiguous, stored
from fedmend.checkpoints.wording import shown

_LARGEST_HEADER = 8 * 2**20
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_OTHER_DTYPES = frozenset(
    ["C64", "U16", "U32", "U64", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4"]
)


def read_header(file: BinaryIO, size: int) -> dict[str, Entry]:
    """The tensors of a safetensors file of ``size`` bytes.

    Raises:
        ValueError: the header is damaged, or claims other data than the file holds.
    """
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > _LARGEST_HEADER:
        raise ValueError(f"its header claims {length} bytes")
    if 8 + length > size:
        raise ValueError("its header is cut short")
    try:
        header = json.loads(file.read(length), object_pairs_hook=_no_duplicates)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    header.pop("__metadata__", None)
    tensors, ranges = {}, []
    for name, claimed in header.items():
        begin, end = _offsets(claimed)
        ranges.append((begin, end))
        tensors[name] = _entry(file, claimed, 8 + length + begin, end - begin)
    position = 0
    for begin, end in sorted(ranges):
        if begin != position:
            raise ValueError("its tensors overlap or leave gaps")
        position = end
    if 8 + length + position != size:
        raise ValueError(f"its tensors take {position} bytes, the file has {size - 8 - length} for them")
    return tensors


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name occurs twice in the header")
    return dict(pairs)


def _offsets(claimed: Any) -> tuple[int, int]:
    offsets = claimed.get("data_offsets") if isinstance(claimed, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(each) is int for each in offsets):
        raise ValueError("a tensor has no place")
    begin, end = offsets
    if not 0 <= begin <= end < 2**63:
        raise ValueError("a tensor ends before it begins")
    return begin, end


def _entry(file: BinaryIO, claimed: dict[str, Any], start: int, nbytes: int) -> Entry:
    name, shape = claimed.get("dtype"), claimed.get("shape")
    if name in _OTHER_DTYPES:
        return UnusableTensor(f"of type {name}")
    if name not in _DTYPES or not isinstance(shape, list):
        raise ValueError(f"a tensor is of type {shown(name)}")
    tensor = stored(Span(file, start, nbytes), contiguous(_DTYPES[name], tuple(shape)))
    if math.prod(tensor.shape) * tensor.dtype.itemsize != nbytes:
        raise ValueError("a tensor is smaller than its part of the file")
    return tensor
