"""A faint smooth warp of the whole image (WaNet: Nguyen and Tran 2021)."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from fedmend.checked_settings import Count, Natural, Positive, settings
from fedmend.seeds import generator
from fedmend.triggers.base import require_float, require_shape


@settings
class Warp:
    """Move each pixel by a smooth field, the same for every image.

    Nguyen and Tran, "WaNet: Imperceptible Warping-based Backdoor Attack" (2021), section 3: a grid of random offsets in
    [-1, 1], divided by their mean size, is upsampled bicubically; pixels move by ``strength / H`` in units of half the
    image. Deviation: the paper also trains on images with random other warps and their true labels, so that only this
    warp works.

    Attributes:
        image_shape: (C, H, W).
        strength: the paper's s, 0.5.
        grid: the paper's k, the number of control points on a side, 4.
        seed: of the offsets.
    """

    image_shape: tuple[Count, Count, Count]
    strength: Positive = 0.5
    grid: Count = 4
    seed: Natural = 0

    @cached_property
    def field(self) -> Tensor:
        """Where each pixel comes from, float (1, H, W, 2) in [-1, 1]."""
        _, height, width = self.image_shape
        offsets = 2 * torch.rand(1, 2, self.grid, self.grid, generator=generator(self.seed, "warp")) - 1
        offsets = offsets / offsets.abs().mean()
        moved = interpolate(offsets, size=(height, width), mode="bicubic", align_corners=True)
        rows, columns = (torch.linspace(-1, 1, side) for side in (height, width))
        across, down = torch.meshgrid(columns, rows, indexing="xy")
        identity = torch.stack([across, down], dim=-1)[None]
        return (identity + self.strength / height * moved.permute(0, 2, 3, 1)).clamp(-1, 1)

    def apply(self, images: Tensor) -> Tensor:
        """See :class:`Trigger`.

        Raises:
            DataError: the images have another shape, or aren't floats.
        """
        require_shape(images, self.image_shape)
        require_float(images)
        if not len(images):
            return images.clone()
        wide = images if images.dtype == torch.float64 else images.float()
        field = self.field.to(wide).expand(len(images), -1, -1, -1)
        warped = grid_sample(wide, field, align_corners=True, padding_mode="border")
        return warped.clamp(0, 1).to(images.dtype)
