"""Labelled images from array files (.npz), which may be damaged or hostile."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from functools import partial
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from fedmend.data.failures import as_data_error
from fedmend.data.lazy_images import LazyImages, opened_images
from fedmend.errors import DataError

_Array = np.ndarray[Any, Any]
_ADVICE = "expected an .npz file of arrays images and labels, as numpy.savez writes it"


def open_npz(open_file: Callable[[], IO[bytes]], where: str) -> LazyImages:
    """Open an .npz file of arrays ``images``, ``labels`` and optionally ``class_names``; pickles are refused.

    ``images`` is (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3 (channels first if ambiguous),
    uint8 or floats in [0, 1], which are rounded to 8 bits. ``labels`` is (N,), integers from 0;
    ``class_names`` is (K,), strings. Only the header of ``images`` is read at first.

    Args:
        open_file: opens the file as a seekable binary stream; called for each reading.
        where: the file's name in errors.

    Raises:
        DataError: the file is damaged, or an array doesn't fit.
    """
    with as_data_error(where, _ADVICE):
        with open_file() as file, np.load(file, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise DataError(
                    f"{where} holds a single array; expected an .npz file of arrays images and labels"
                )
            missing = [name for name in ("images", "labels") if name not in arrays.files]
            if missing:
                came = ", ".join(arrays.files) or "none"
                raise DataError(f"{where} has no array {' and no '.join(missing)}; got arrays: {came}")
            assert arrays.zip is not None
            with arrays.zip.open("images.npy") as stream:
                shape, dtype, _ = _header(stream)
            labels = arrays["labels"]
            names = arrays["class_names"] if "class_names" in arrays.files else None
        _check_images(shape, dtype, where)
        if labels.ndim == 1 and len(labels) != shape[0]:
            raise DataError(
                f"every image needs one label; {where} has {shape[0]} images and {len(labels)} labels"
            )
        return opened_images(labels, _names(names, where), partial(_decode, open_file, where), where)


def _decode(open_file: Callable[[], IO[bytes]], where: str, rows: list[int]) -> Tensor:
    """The images at ``rows`` (ascending) as uint8 (M, C, H, W)."""
    with as_data_error(where, _ADVICE):
        with open_file() as file, zipfile.ZipFile(file) as archive, archive.open("images.npy") as stream:
            images = _read_rows(stream, rows)
        return _pixels(images, where)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """An array's shape, type, and whether it is in column-major order; the stream is left at its values."""
    first = np.lib.format.read_magic(stream) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, columns_first, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("images holds pickled objects, which could run code")
    return shape, dtype, columns_first


def _read_rows(stream: IO[bytes], rows: list[int]) -> _Array:
    """Read the rows of an array in a stream; the others are skipped."""
    shape, dtype, columns_first = _header(stream)
    size, start = dtype.itemsize * math.prod(shape[1:]), stream.tell()
    if columns_first or len(rows) == shape[0]:
        whole = np.frombuffer(stream.read(size * shape[0]), dtype)
        return whole.reshape(shape, order="F" if columns_first else "C")[rows]
    pieces = []
    for row in rows:
        stream.seek(start + row * size)
        pieces.append(stream.read(size))
    return np.frombuffer(b"".join(pieces), dtype).reshape(len(rows), *shape[1:])


def _check_images(shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> None:
    if len(shape) != 3 and (len(shape) != 4 or not {shape[1], shape[3]} & {1, 3}):
        raise DataError(
            f"images of {where} must have shape (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3; "
            f"got {shape}"
        )
    if math.prod(shape) == 0:
        raise DataError(f"{where} needs at least one image with at least one pixel; got shape {shape}")
    if dtype.kind != "f" and dtype != np.uint8:
        raise DataError(f"images of {where} must be uint8, or floats in [0, 1]; got {dtype}")


def _pixels(images: _Array, where: str) -> Tensor:
    """The array as uint8 (N, C, H, W)."""
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.dtype.kind == "f":
        if not bool(((images >= 0) & (images <= 1)).all()):
            raise DataError(
                f"float images of {where} must be in [0, 1] without NaN; got values from {images.min()} to "
                f"{images.max()}; divide 8-bit values by 255, or store them as uint8"
            )
        images = np.rint(images.astype(np.float64) * 255).astype(np.uint8)
    return torch.from_numpy(np.array(images, order="C"))


def _names(names: _Array | None, where: str) -> tuple[str, ...] | None:
    if names is None:
        return None
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(
            f"class_names of {where} must be strings of shape (K,); got {names.dtype} {names.shape}"
        )
    return tuple(str(name) for name in names)
