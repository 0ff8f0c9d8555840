"""A trigger of your own: ``own_trigger:make`` names it in a TOML file.

[attack.trigger]
kind = "own_trigger:make"
strength = 0.6
"""

from __future__ import annotations

import torch
from torch import Tensor


class CornerGlow:
    """Images become brighter towards their upper left corner."""

    def __init__(self, glow: Tensor) -> None:
        self.glow = glow  # (H, W), in [0, 1]

    def apply(self, images: Tensor) -> Tensor:
        """Take floats in [0, 1], (N, C, H, W), and return new ones of the same shape, type, device and range."""
        glow = self.glow.to(images)
        return images + glow * (1 - images)


def make(image_shape: tuple[int, int, int], strength: float = 0.5, reach: int = 6) -> CornerGlow:
    """What fedmend calls, with the images' (C, H, W) and the table's other settings."""
    _, height, width = image_shape
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return CornerGlow(strength * (1 - (rows + columns) / reach).clamp(0, 1))
