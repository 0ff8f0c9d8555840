"""Which images are among others, whatever their type: by their pixels as bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.pixels import to_uint8


def among(images: Tensor, others: Tensor) -> Tensor:
    """Which images are among the others, bool (N,).

    Args:
        images, others: uint8 or float in [0, 1], (N, C, H, W) and (M, C, H, W).
    """
    known = set(_contents(others))
    return torch.tensor([each in known for each in _contents(images)], dtype=torch.bool)


def _contents(images: Tensor) -> list[bytes]:
    pixels = images if images.dtype == torch.uint8 else to_uint8(images)
    return [row.numpy().tobytes() for row in pixels.cpu()]
