"""Decodes images (PNG, JPEG, BMP, WebP), which may be damaged or hostile, to one tensor of pixels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fedmend.data.failures import as_data_error
from fedmend.errors import DataError

_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")


def decode(sources: Iterable[tuple[str, bytes | Path]], size: tuple[int, int] | None = None) -> Tensor:
    """Decode images that all have the same size.

    Args:
        sources: each image's name in errors, and its encoded bytes or its file.
        size: (H, W) in pixels to scale every image to; None keeps the sizes.

    Returns:
        uint8, (N, C, H, W): C is 1 if every image is grey, otherwise 3. Transparency is dropped.

    Raises:
        DataError: there is no image, or one is damaged, has more than 8 bits per channel or differs from the first
            in size.
    """
    arrays: list[NDArray[np.uint8]] = []
    first = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd but readable files
        for name, source in sources:
            first = first or name
            expected = arrays[0].shape[:2] if arrays and size is None else None
            arrays.append(_decode_one(name, source, first, expected, size))
    if not arrays:
        raise DataError("no images found; at least one is needed")
    if any(array.ndim == 3 for array in arrays):
        arrays = [array if array.ndim == 3 else np.repeat(array[:, :, None], 3, axis=2) for array in arrays]
        return torch.from_numpy(np.ascontiguousarray(np.stack(arrays).transpose(0, 3, 1, 2)))
    return torch.from_numpy(np.stack(arrays)[:, None])


def _decode_one(
    name: str,
    source: bytes | Path,
    first: str,
    expected: tuple[int, ...] | None,
    size: tuple[int, int] | None,
) -> NDArray[np.uint8]:
    """One image as (H, W) if grey, otherwise (H, W, 3)."""
    with (
        as_data_error(name, "expected a whole PNG, JPEG, BMP or WebP image; replace it or leave it out"),
        Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS) as image,
    ):
        width, height = image.size
        if expected is not None and (height, width) != expected:
            raise DataError(
                f"all images must have the same size: {name} is {width}x{height} pixels, {first} is "
                f"{expected[1]}x{expected[0]}; scale them to one size first"
            )
        if image.mode.startswith("I") or image.mode == "F":
            raise DataError(
                f"{name} has more than 8 bits per channel (mode {image.mode}); convert it to 8 bits first"
            )
        pixels: Image.Image = image
        if image.mode not in ("L", "RGB"):
            pixels = image.convert("L" if image.mode == "1" else "RGB")
        if size is not None and (height, width) != size:
            pixels = pixels.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        shape = (pixels.height, pixels.width) if pixels.mode == "L" else (pixels.height, pixels.width, 3)
        return np.frombuffer(pixels.tobytes(), dtype=np.uint8).reshape(shape)
