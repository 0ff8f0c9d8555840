"""A model that fedmend doesn't know. ``own_model:make`` names it on the command line and in a TOML file."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Separable(nn.Module):
    """Depthwise-separable convolutions. It takes pixels in [0, 1], (N, C, H, W), and returns logits (N, classes)."""

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        height, width = (side // 2 // 2 for side in image_size)
        self.stem = nn.Conv2d(in_channels, 16, 3, padding=1, stride=2)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pointwise = nn.Conv2d(16, 32, 1)
        self.pool = nn.AdaptiveMaxPool2d((height, width))
        self.head = nn.Linear(32 * height * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.stem((images - 0.5) / 0.5))  # normalising is the model's own business
        x = torch.relu(self.pointwise(self.depthwise(x)))
        logits: Tensor = self.head(self.pool(x).flatten(1))
        return logits


def make(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    """What fedmend calls, with those of these three that the function accepts, read off the data."""
    return Separable(num_classes, in_channels, image_size)
