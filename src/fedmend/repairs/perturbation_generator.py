"""A generator of bounded changes to images, which may differ from image to image and from place to place."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, leaky_relu

_MAPS = 16
_START = 0.01
"""Scale of the first changes."""


class PerturbationGenerator:
    """Two 3x3 convolutions of the image, and a value for each pixel that all images share.

    Args:
        like: images (N, C, H, W) of the dtype and on the device of those to come.
        strength: largest root mean square of a change, for pixels in [0, 1].
        rng: on the CPU, for the weights.

    Attributes:
        weights: leaves that require a gradient.
    """

    def __init__(self, like: Tensor, strength: float, rng: torch.Generator) -> None:
        channels, height, width = like.shape[1:]
        sizes = (_MAPS, channels, 3, 3), (channels, _MAPS, 3, 3), (channels, height, width)
        scales = math.sqrt(2 / (9 * channels)), _START, _START
        self.weights = [
            (torch.randn(size, generator=rng) * scale).to(like).requires_grad_()
            for size, scale in zip(sizes, scales, strict=True)
        ]
        self._radius = strength * math.sqrt(channels * height * width)

    def __call__(self, images: Tensor) -> Tensor:
        """The changed images, float (N, C, H, W) in [0, 1]; differentiable at the weights."""
        first, second, shared = self.weights
        maps = leaky_relu(conv2d(images, first, padding=1), 0.2)
        change = conv2d(maps, second, padding=1) + shared
        size = torch.linalg.vector_norm(change.flatten(1), dim=1).clamp_min(1e-12)
        shrunk = change * (self._radius / size).clamp(max=1).view(-1, 1, 1, 1)
        changed: Tensor = (images + shrunk).clamp(0, 1)
        return changed
