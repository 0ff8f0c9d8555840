"""Labelled images from array files (.npz), which may be damaged or hostile."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from fedmend.data.class_names import in_order
from fedmend.data.failures import as_data_error
from fedmend.data.lazy_images import LazyImages, Size, Wanted, opened_images
from fedmend.data.limits import LARGEST_PART, check_unpacked
from fedmend.errors import DataError

_Array = np.ndarray[Any, Any]
_ADVICE = "expected an .npz file of arrays images and labels, as numpy.savez writes it"
_BLOCK_BYTES = 2**24


def open_npz(open_file: Callable[[], IO[bytes]], where: str, wanted: Wanted) -> LazyImages:
    """Open an .npz file of arrays ``images``, ``labels`` and optionally ``class_names``; pickles are refused.

    ``images`` is (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3 (channels first if ambiguous),
    uint8 or floats in [0, 1], which are rounded to 8 bits. ``labels`` is (N,), integers or texts; ``class_names`` is
    (K,), strings. Only the header of ``images`` is read at first.

    Args:
        open_file: opens the file as a seekable binary stream; called for each reading.
        where: the file's name in errors.
        wanted: size and classes.

    Raises:
        DataError: the file is damaged or unpacks to too much, or an array doesn't fit.
    """
    with as_data_error(where, _ADVICE):
        with open_file() as file, np.load(file, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise DataError(
                    f"{where} holds a single array; expected an .npz file of arrays images and labels"
                )
            missing = [name for name in ("images", "labels") if name not in arrays.files]
            if missing:
                came = ", ".join(arrays.files)[:300] or "none"
                raise DataError(f"{where} has no array {' and no '.join(missing)}; got arrays: {came}")
            assert arrays.zip is not None
            _check_sizes(arrays.zip, where)
            with arrays.zip.open("images.npy") as stream:
                shape, dtype, _ = _header(stream)
            labels = arrays["labels"]
            names = arrays["class_names"] if "class_names" in arrays.files else None
        _check_images(shape, dtype, where)
        if labels.ndim == 1 and len(labels) != shape[0]:
            raise DataError(
                f"every image needs one label; {where} has {shape[0]} images and {len(labels)} labels"
            )
        known, classes = _names(names, where), wanted.classes
        if labels.ndim == 1 and labels.dtype.kind in "US":
            texts, labels = np.unique(labels, return_inverse=True)
            classes, known = classes or known, tuple(_text(text) for text in texts)
            classes = classes or in_order(known)
        decode = partial(_decode, open_file, where, wanted.size)
        return opened_images(labels, known, decode, where, classes)


def _check_sizes(archive: zipfile.ZipFile, where: str) -> None:
    """Refuse arrays that are much larger than what is stored; reading ends at the sizes in the archive's list."""
    for member in archive.infolist():
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{where} is compressed in a way that numpy.savez doesn't use; {_ADVICE}")
        check_unpacked(member.file_size, member.compress_size, f"{member.filename[:80]!r} of {where}")
        if member.filename in ("labels.npy", "class_names.npy") and member.file_size > LARGEST_PART:
            raise DataError(
                f"{member.filename} of {where} has {member.file_size / 2**20:.0f} MiB; expected at most "
                f"{LARGEST_PART / 2**20:.0f}"
            )


def _decode(open_file: Callable[[], IO[bytes]], where: str, size: Size | None, rows: list[int]) -> Tensor:
    """The images at ``rows`` (ascending) as uint8 (M, C, H, W)."""
    images: _Array | None = None
    done = 0
    with (
        as_data_error(where, _ADVICE),
        open_file() as file,
        zipfile.ZipFile(file) as archive,
        archive.open("images.npy") as stream,
    ):
        for block in _blocks(stream, rows):
            pixels = _pixels(block, where)
            if size is not None:
                pixels = _resized(pixels, size)
            if images is None:
                stored = archive.getinfo("images.npy").compress_size
                check_unpacked(len(rows) * pixels[0].size, stored, f"images of {where}")
                images = np.empty((len(rows), *pixels.shape[1:]), np.uint8)
            images[done : done + len(pixels)] = pixels
            done += len(pixels)
    return torch.from_numpy(images)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """An array's shape, type, and whether it is in column-major order; the stream is left at its values."""
    first = np.lib.format.read_magic(stream) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, columns_first, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("images holds pickled objects, which could run code")
    return shape, dtype, columns_first


def _blocks(stream: IO[bytes], rows: list[int]) -> Iterator[_Array]:
    """The rows of an array in a stream, a few at a time; the others are skipped."""
    shape, dtype, columns_first = _header(stream)
    size, start = dtype.itemsize * math.prod(shape[1:]), stream.tell()
    most = max(1, _BLOCK_BYTES // size)
    if columns_first:
        whole = np.frombuffer(stream.read(size * shape[0]), dtype).reshape(shape, order="F")
        yield from (whole[rows[first : first + most]] for first in range(0, len(rows), most))
        return
    first = 0
    while first < len(rows):
        count = 1
        while count < min(most, len(rows) - first) and rows[first + count] == rows[first] + count:
            count += 1
        stream.seek(start + rows[first] * size)
        yield np.frombuffer(stream.read(count * size), dtype).reshape(count, *shape[1:])
        first += count


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


def _pixels(images: _Array, where: str) -> _Array:
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
    return images


def _resized(images: _Array, size: Size) -> _Array:
    from fedmend.data.decoding import resized  # here, since only this needs Pillow

    channels_last = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    scaled = [resized(each[..., 0] if each.shape[2] == 1 else each, size) for each in channels_last]
    return np.stack([each[None] if each.ndim == 2 else each.transpose(2, 0, 1) for each in scaled])


def _text(text: Any) -> str:
    return text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else str(text)


def _names(names: _Array | None, where: str) -> tuple[str, ...] | None:
    if names is None:
        return None
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(
            f"class_names of {where} must be strings of shape (K,); got {names.dtype} {names.shape}"
        )
    return tuple(str(name) for name in names)
