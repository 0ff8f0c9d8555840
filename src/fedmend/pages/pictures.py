"""Images, masks and patterns as PNG data URIs, at original resolution; the page scales them up."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fedmend.triggers import Patch

HEAT_STOPS = ("#10131c", "#3b1f5e", "#8c2a6b", "#d9493f", "#f69a3c", "#fcf3b0")
"""The heat map's colours from 0 to 1, evenly spaced and increasingly light."""


@dataclass(frozen=True)
class TriggerPictures:
    """A patch as two pictures; ``size`` is the mask's, ``pixels`` the image's, and ``shape`` its width and height."""

    mask: str
    pattern: str
    size: float
    pixels: int
    shape: str


def trigger_pictures(patch: Patch) -> TriggerPictures:
    """The mask as a heat map, and the pattern with the mask as opacity."""
    _, height, width = patch.mask.shape
    return TriggerPictures(
        mask=heat_map(patch.mask),
        pattern=weighted_pattern(patch),
        size=patch.size,
        pixels=height * width,
        shape=f"{width}\u2009×\u2009{height}",
    )


def photo(image: Tensor) -> str:
    """An image, (C, H, W), uint8 or float in [0, 1], as a data URI."""
    return _data_uri(_pixels(image))


def heat_map(mask: Tensor) -> str:
    """A mask, (1, H, W) in [0, 1], as a coloured heat map, a data URI."""
    stops = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in HEAT_STOPS], dtype=float)
    value = mask[0].detach().cpu().float().numpy()
    at = np.linspace(0, 1, len(stops))
    channels = [np.interp(value, at, stops[:, channel]) for channel in range(3)]
    return _data_uri(np.stack(channels, axis=-1).round().astype(np.uint8))


def weighted_pattern(trigger: Patch) -> str:
    """A trigger's pattern as a data URI, with the mask as opacity."""
    colour = _pixels(trigger.pattern)
    if colour.ndim == 2:
        colour = np.stack([colour] * 3, axis=-1)
    alpha = _pixels(trigger.mask)
    return _data_uri(np.concatenate([colour, alpha[..., None]], axis=-1))


def _pixels(image: Tensor) -> NDArray[np.uint8]:
    """(H, W) for one or two channels; (H, W, 3), the first three, for more."""
    values = image.detach().cpu()
    if values.is_floating_point():
        values = (values.clamp(0, 1) * 255).round()
    array: NDArray[np.uint8] = values.numpy().astype(np.uint8)
    if array.shape[0] >= 3:
        return np.ascontiguousarray(array[:3].transpose(1, 2, 0))
    flat: NDArray[np.uint8] = array[0]
    return flat


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
