"""Image transformations that move or blur what a trigger depends on, as pure functions of a batch and its settings."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate


def affine(images: Tensor, degrees: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Rotate, scale and shift each image about its centre; what comes from outside repeats the border.

    Args:
        images: float (N, C, H, W) in [0, 1].
        degrees: (N,), counterclockwise. scale: (N,), above 1 enlarges.
        shift: (N, 2), to the right and down, as fractions of half the width and height.

    Returns:
        New images of the same shape, in [0, 1].
    """
    height, width = images.shape[2:]
    angle = degrees * (math.pi / 180)
    cosine, sine = angle.cos() / scale, angle.sin() / scale
    back = torch.stack(
        [
            torch.stack([cosine, -sine * height / width, -shift[:, 0]], 1),
            torch.stack([sine * width / height, cosine, -shift[:, 1]], 1),
        ],
        1,
    )
    grid = affine_grid(back.to(images), list(images.shape), align_corners=False)
    return _sampled(images, grid)


def optical_distortion(images: Tensor, strength: Tensor) -> Tensor:
    """Bend each image about its centre as a lens does: a point at radius r shows what was at ``r (1 + strength r^2)``.

    Args:
        images: float (N, C, H, W) in [0, 1].
        strength: (N,); above 0 shrinks towards the centre, below 0 enlarges. The radius of a side's middle is 1.

    Returns:
        New images of the same shape, in [0, 1].
    """
    still = torch.eye(2, 3).expand(len(images), 2, 3)
    grid = affine_grid(still.to(images), list(images.shape), align_corners=False)
    factor = 1 + strength.view(-1, 1, 1, 1).to(images) * grid.square().sum(3, keepdim=True)
    return _sampled(images, grid * factor)


def gamma(images: Tensor, exponent: Tensor) -> Tensor:
    """Each pixel to the power of its image's exponent, (N,): above 1 darkens."""
    return images.clamp_min(1e-6).pow(exponent.view(-1, 1, 1, 1).to(images))


def shrink_and_restore(images: Tensor, factor: float) -> Tensor:
    """Scale the images down by a factor in (0, 1] and back up, so that single pixels blur into their surroundings."""
    height, width = images.shape[2:]
    small = (max(1, round(factor * height)), max(1, round(factor * width)))
    less = interpolate(images, size=small, mode="bilinear", align_corners=False)
    return interpolate(less, size=(height, width), mode="bilinear", align_corners=False)


def _sampled(images: Tensor, grid: Tensor) -> Tensor:
    return grid_sample(images, grid, padding_mode="border", align_corners=False)
