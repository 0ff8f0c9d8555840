"""Patches: the triggers that attackers plant most often, and the only ones that scans recover."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmend.errors import DataError
from fedmend.triggers.base import require_float, require_shape


@dataclass(frozen=True, eq=False)
class Patch:
    """A patch stamped on images: ``x' = m * pattern + (1 - m) * x`` (contrastive paper, Algorithm 1).

    Attributes:
        mask: float, (1, H, W), in [0, 1]: the fraction of each pixel that is replaced, the same in all channels.
        pattern: float, (C, H, W), in [0, 1]: the replacement.

    Raises:
        DataError: a shape or a value is out of range.
    """

    mask: Tensor
    pattern: Tensor

    def __post_init__(self) -> None:
        shapes = f"mask {tuple(self.mask.shape)}, pattern {tuple(self.pattern.shape)}"
        if self.mask.ndim != 3 or self.mask.shape[0] != 1 or self.pattern.ndim != 3:
            raise DataError(f"a patch needs a mask (1, H, W) and a pattern (C, H, W); got {shapes}")
        if self.mask.shape[1:] != self.pattern.shape[1:]:
            raise DataError(f"a patch's mask and pattern must have the same height and width; got {shapes}")
        for name, value in (("mask", self.mask), ("pattern", self.pattern)):
            if not value.is_floating_point() or not bool(((value >= 0) & (value <= 1)).all()):
                raise DataError(f"a patch's {name} must be floats in [0, 1] without NaN")

    def apply(self, images: Tensor) -> Tensor:
        """See :class:`Trigger`; the patch itself may be on another device.

        Raises:
            DataError: the images have another number of channels, height or width than the patch, or aren't floats.
        """
        require_shape(images, tuple(self.pattern.shape))
        require_float(images)
        mask, pattern = self.mask.to(images.device), self.pattern.to(images.device)
        return (mask * pattern + (1 - mask) * images).to(images.dtype)

    @property
    def size(self) -> float:
        """The mask's L1 norm, in pixels (contrastive paper, Eq. 3): a hard mask of 9 pixels has size 9."""
        return float(self.mask.sum())

    def to(self, device: torch.device | str) -> Patch:
        """The same patch on another device."""
        return Patch(self.mask.to(device), self.pattern.to(device))


def union(patches: Iterable[Patch]) -> Patch:
    """Several patches as one, later ones on top; equivalent to stamping them one after the other.

    Raises:
        DataError: there is no patch, or they are for images of different shapes.
    """
    stack = list(patches)
    if not stack:
        raise DataError("a union needs at least one patch; got none")
    mask, pattern = stack[0].mask, stack[0].pattern
    for upper in stack[1:]:
        if upper.pattern.shape != pattern.shape:
            raise DataError(
                f"patches of one union must be for images of the same shape (C, H, W); "
                f"got {tuple(pattern.shape)} and {tuple(upper.pattern.shape)}"
            )
        covered = upper.mask + (1 - upper.mask) * mask
        weighted = upper.mask * upper.pattern + (1 - upper.mask) * mask * pattern
        pattern = torch.where(covered > 0, weighted / covered.clamp_min(1e-12), pattern)
        mask = covered
    return Patch(mask, pattern.clamp(0, 1))
