"""Additive perturbations: what a scan recovers of blends, sinusoids and other faint triggers of the whole image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedmend.errors import DataError
from fedmend.triggers.base import require_float, require_shape


@dataclass(frozen=True, eq=False)
class Addition:
    """A perturbation added to images: ``x' = x + delta``, clamped to [0, 1].

    Attributes:
        delta: float, (C, H, W), in [-1, 1].

    Raises:
        DataError: the shape or a value is out of range.
    """

    delta: Tensor

    def __post_init__(self) -> None:
        if self.delta.ndim != 3:
            raise DataError(f"an addition needs a delta (C, H, W); got {tuple(self.delta.shape)}")
        if not self.delta.is_floating_point() or not bool(((self.delta >= -1) & (self.delta <= 1)).all()):
            raise DataError("an addition's delta must be floats in [-1, 1] without NaN")

    def apply(self, images: Tensor) -> Tensor:
        """See :class:`Trigger`; the addition itself may be on another device.

        Raises:
            DataError: the images have another number of channels, height or width than delta, or aren't floats.
        """
        require_shape(images, tuple(self.delta.shape))
        require_float(images)
        return (images + self.delta.to(images.device)).clamp(0, 1).to(images.dtype)

    @property
    def strength(self) -> float:
        """The root mean square of delta, in [0, 1]."""
        return float(self.delta.square().mean().sqrt())

    def to(self, device: torch.device | str) -> Addition:
        """The same addition on another device."""
        return Addition(self.delta.to(device))
