"""Tensors that are still in a file: type, shape and place are known, the values are not read yet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, TypeAlias

import torch
from torch import Tensor

from fedmend.errors import CheckpointError

_LARGEST = 2**48
_MOST_DIMENSIONS = 64
_WASTE, _WASTE_BYTES = 8, 64 * 2**20


@dataclass(frozen=True)
class StoredTensor:
    """A dense tensor in a file.

    Attributes:
        dtype: its type.
        shape: its shape.
        place: where it is; equal for tensors of the same bytes.
        load: reads it into new memory on the CPU, contiguous. Raises CheckpointError and OSError.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    place: tuple[object, ...]
    load: Callable[[], Tensor] = field(compare=False, repr=False)

    @property
    def nbytes(self) -> int:
        """The size of the values in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class UnusableTensor:
    """A tensor of a kind that no model here has: quantised, sparse, on the meta device, of an unknown type."""

    kind: str


Entry: TypeAlias = StoredTensor | UnusableTensor


@dataclass(frozen=True)
class Span:
    """A range of bytes in an open file."""

    file: BinaryIO
    start: int
    nbytes: int


@dataclass(frozen=True)
class Layout:
    """How a tensor lies in a range of bytes; offset and strides count elements."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0

    @property
    def extent(self) -> int:
        """The number of elements from the first to the last."""
        if 0 in self.shape:
            return 0
        return 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))


def contiguous(dtype: torch.dtype, shape: tuple[int, ...]) -> Layout:
    """The layout of a contiguous tensor."""
    stride, step = [], 1
    for size in reversed(shape):
        stride.append(step)
        step *= max(size, 1)
    return Layout(dtype, shape, tuple(reversed(stride)))


def stored(span: Span, layout: Layout) -> StoredTensor:
    """The tensor that lies in ``span`` like that.

    Raises:
        ValueError: there is no such tensor, or it doesn't lie within the range.
    """
    if len(layout.shape) != len(layout.stride) or len(layout.shape) > _MOST_DIMENSIONS:
        raise ValueError("a tensor has a wrong number of dimensions")
    numbers = (*layout.shape, *layout.stride, layout.offset)
    if not all(type(number) is int and 0 <= number < _LARGEST for number in numbers):
        raise ValueError("a shape, stride or offset is no number of elements")
    if math.prod(layout.shape) >= _LARGEST:
        raise ValueError("a tensor has more elements than any memory holds")
    if (layout.offset + layout.extent) * layout.dtype.itemsize > span.nbytes and layout.extent:
        raise ValueError("a tensor is larger than its part of the file")
    place = (span.start, layout)
    return StoredTensor(layout.dtype, layout.shape, place, lambda: _read(span, layout))


def _read(span: Span, layout: Layout) -> Tensor:
    width = layout.dtype.itemsize
    extent, needed = layout.extent, math.prod(layout.shape)
    if extent > _WASTE * needed and extent * width > _WASTE_BYTES:
        raise CheckpointError("a tensor is spread over far more of the file than it fills; save a copy of it")
    try:
        flat = torch.empty(extent, dtype=layout.dtype)
        read_into(flat, span.file, span.start + layout.offset * width)
        if flat.dtype == torch.bool:
            flat = flat.view(torch.uint8) != 0  # a byte may hold any value
        return flat.as_strided(layout.shape, layout.stride).contiguous()
    except RuntimeError as error:
        raise CheckpointError(f"there is not enough memory for a tensor of {extent * width} bytes") from error


def read_into(flat: Tensor, file: BinaryIO, start: int) -> None:
    """Fill a tensor of one dimension with the bytes at ``start``.

    Raises:
        CheckpointError: the file ends before.
    """
    view = bytes_of(flat)
    file.seek(start)
    if file.readinto(view) < len(view):  # type: ignore[attr-defined]
        raise CheckpointError("the file was cut short while it was read; copy it again")


def bytes_of(flat: Tensor) -> memoryview:
    """The bytes of a tensor of one dimension, to be written to."""
    return flat.view(torch.uint8).numpy().data
