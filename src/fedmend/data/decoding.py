"""Decodes images (PNG, JPEG, BMP, WebP), which may be damaged or hostile, to one tensor of pixels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from fedmend.data.failures import as_data_error
from fedmend.data.lazy_images import Size
from fedmend.data.limits import LARGEST_IMAGE, check_unpacked
from fedmend.errors import DataError

_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_MOST_PIXELS_PER_BYTE = 200


def decode(
    sources: Iterable[tuple[str, bytes | Path]], count: int, stored: int, size: Size | None = None
) -> Tensor:
    """Decode ``count`` images, one after the other, that all have the same size.

    Palette and CMYK images become grey or RGB, 16 bits per channel become the upper 8, transparency is dropped, as by
    Pillow and torchvision; images are turned as their EXIF orientation says.

    Args:
        sources: each image's name in errors, and its encoded bytes or its file.
        count: how many there are, at least 1.
        stored: how many bytes hold them, against which their size in memory is checked.
        size: to which every image is scaled; None keeps the sizes.

    Returns:
        uint8, (N, C, H, W): C is 1 if every image is grey, otherwise 3.

    Raises:
        DataError: an image is damaged or differs from the first in size, or they are too large.
    """
    images: NDArray[np.uint8] | None = None
    first, seen = "", 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd but readable files
        for index, (name, source) in enumerate(sources):
            pixels, seen = _decoded(name, source, (seen, stored), size)
            channels = 1 if pixels.ndim == 2 else 3
            if images is None or channels > images.shape[1]:
                needed = count * channels * pixels.shape[0] * pixels.shape[1]
                check_unpacked(
                    needed, stored, f"images of {pixels.shape[1]}x{pixels.shape[0]} such as {name}"
                )
            if images is None:
                images, first = np.empty((count, channels, *pixels.shape[:2]), np.uint8), name
            elif channels > images.shape[1]:
                images = np.repeat(images, 3, axis=1)
            if pixels.shape[:2] != images.shape[2:]:
                raise DataError(
                    f"all images must have the same size: {name} is {pixels.shape[1]}x{pixels.shape[0]} pixels, "
                    f"{first} is {images.shape[3]}x{images.shape[2]}; scale them with --resize HxW "
                    "(in Python, resize=(H, W))"
                )
            images[index] = pixels if channels == 1 else pixels.transpose(2, 0, 1)
    assert images is not None
    return torch.from_numpy(images)


def resized(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Scale an image, (H, W) or (H, W, 3), as torchvision's Resize does: bilinear, with antialiasing."""
    if pixels.shape[:2] == size:
        return pixels
    scaled = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(scaled)


def _decoded(
    name: str, source: bytes | Path, seen_and_stored: tuple[int, int], size: Size | None
) -> tuple[NDArray[np.uint8], int]:
    """One image as (H, W) if grey, otherwise (H, W, 3), and how many pixels were decoded so far."""
    with (
        as_data_error(name, "expected a whole PNG, JPEG, BMP or WebP image; replace it or leave it out"),
        Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS) as image,
    ):
        number = image.width * image.height
        if number > LARGEST_IMAGE:
            raise DataError(
                f"{name} is {image.width}x{image.height} pixels; expected at most {LARGEST_IMAGE:,} in one image; "
                "scale it down first"
            )
        seen, stored = seen_and_stored[0] + number, seen_and_stored[1]
        check_unpacked(seen, stored, f"images such as {name}", factor=_MOST_PIXELS_PER_BYTE)
        pixels = _as_pixels(ImageOps.exif_transpose(image))
        return pixels if size is None else resized(pixels, size), seen


def _as_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """8-bit pixels: (H, W) if the image is grey by its mode or its palette, otherwise (H, W, 3)."""
    if image.mode.startswith("I"):
        return (np.asarray(image) >> 8).astype(np.uint8)
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))
    pixels = np.asarray(image.convert("RGB"))
    if image.mode in ("P", "PA") and bool((pixels == pixels[..., :1]).all()):
        return pixels[..., 0]
    return pixels
