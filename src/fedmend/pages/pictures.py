"""Images, masks and patterns as PNG data URIs, at original resolution; the page scales them up."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fedmend.pages import words
from fedmend.triggers import Addition, Patch

HEAT_STOPS = ("#10131c", "#3b1f5e", "#8c2a6b", "#d9493f", "#f69a3c", "#fcf3b0")
"""The heat map's colours from 0 to 1, evenly spaced and increasingly light."""


@dataclass(frozen=True)
class Picture:
    """A picture of a trigger as a data URI; ``described`` goes into its alternative text."""

    uri: str
    caption: str
    described: str
    transparent: bool = False


@dataclass(frozen=True)
class TriggerPictures:
    """A trigger as pictures; ``facts`` is its size in words, and ``masked`` whether one of them is a mask."""

    pictures: tuple[Picture, ...]
    facts: str
    masked: bool


def trigger_pictures(trigger: Patch | Addition) -> TriggerPictures:
    """A patch as its mask, a heat map, and its pattern; an addition as its changes, amplified around grey."""
    if isinstance(trigger, Addition):
        return _of_addition(trigger)
    _, height, width = trigger.mask.shape
    size = words.patch_size(trigger.size)
    return TriggerPictures(
        (
            Picture(
                heat_map(trigger.mask), "Mask", f"its mask as a heat map, {size} of {height * width} pixels"
            ),
            Picture(
                weighted_pattern(trigger), "Pattern × mask", "its pattern, with the mask as opacity", True
            ),
        ),
        f"{size} px of {width}\u2009×\u2009{height}",
        masked=True,
    )


def _of_addition(addition: Addition) -> TriggerPictures:
    """Amplified until the largest change is black or white; as it is, it would be too faint to see."""
    largest = float(addition.delta.abs().max())
    gain = max(1.0, 0.5 / largest) if largest > 0 else 1.0
    strength = words.percent(addition.strength)
    return TriggerPictures(
        (
            Picture(
                photo(0.5 + gain * addition.delta),
                f"Change, amplified {words.number(gain)} times around grey",
                f"its change of every pixel, {strength} of the pixels' range on average",
            ),
        ),
        f"changes every pixel, by {strength} of the range (root mean square)",
        masked=False,
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
