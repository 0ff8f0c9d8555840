"""Triggers: planted by an attacker, recovered by a scan or unlearned by a repair, they are one type."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmend.errors import DataError


@dataclass(frozen=True, eq=False)
class Patch:
    """A patch that is blended into images: ``x' = m * pattern + (1 - m) * x`` (contrastive paper, Algorithm 1).

    Attributes:
        mask: float, (1, H, W), in [0, 1]: how much of each pixel the pattern replaces, in all channels alike.
        pattern: float, (C, H, W), in [0, 1]: the colour that replaces it.

    Raises:
        DataError: a shape or a value is out of range.
    """

    mask: Tensor
    pattern: Tensor

    def __post_init__(self) -> None:
        shapes = f"mask {tuple(self.mask.shape)}, pattern {tuple(self.pattern.shape)}"
        if self.mask.ndim != 3 or self.mask.shape[0] != 1 or self.pattern.ndim != 3:
            raise DataError(f"a trigger needs a mask (1, H, W) and a pattern (C, H, W); got {shapes}")
        if self.mask.shape[1:] != self.pattern.shape[1:]:
            raise DataError(f"a trigger's mask and pattern must have the same height and width; got {shapes}")
        for name, value in (("mask", self.mask), ("pattern", self.pattern)):
            if not value.is_floating_point() or not bool(((value >= 0) & (value <= 1)).all()):
                raise DataError(f"a trigger's {name} must be floats in [0, 1] without NaN")

    def apply(self, images: Tensor) -> Tensor:
        """Stamp the trigger on ``images``, float (N, C, H, W) in [0, 1]; returns a new tensor of that shape.

        Raises:
            DataError: the images have another number of channels, height or width than the trigger, or
                aren't floats.
        """
        if tuple(images.shape[1:]) != tuple(self.pattern.shape):
            raise DataError(
                f"this trigger is for images of shape (C, H, W) = {tuple(self.pattern.shape)}; "
                f"got images of shape {tuple(images.shape[1:])}"
            )
        if not images.is_floating_point():
            raise DataError(
                f"a trigger is stamped on float images in [0, 1]; got {images.dtype}: divide bytes by 255"
            )
        return self.mask * self.pattern + (1 - self.mask) * images

    @property
    def size(self) -> float:
        """The mask's L1 norm, in pixels (contrastive paper, Eq. 3): a hard mask of 9 pixels has size 9."""
        return float(self.mask.sum())

    def to(self, device: torch.device | str) -> Patch:
        """The same trigger on another device."""
        return Patch(self.mask.to(device), self.pattern.to(device))


def union(triggers: Iterable[Patch]) -> Patch:
    """Stamp several triggers as one, the later ones on top (a DBA attacker's atoms make its full trigger).

    Raises:
        DataError: there is no trigger, or they are for images of different shapes.
    """
    stack = list(triggers)
    if not stack:
        raise DataError("a union needs at least one trigger; got none")
    mask, pattern = stack[0].mask, stack[0].pattern
    for trigger in stack[1:]:
        if trigger.pattern.shape != pattern.shape:
            raise DataError(
                f"triggers of one union must be for images of the same shape (C, H, W); "
                f"got {tuple(pattern.shape)} and {tuple(trigger.pattern.shape)}"
            )
        covered = trigger.mask + (1 - trigger.mask) * mask
        weighted = trigger.mask * trigger.pattern + (1 - trigger.mask) * mask * pattern
        pattern = torch.where(covered > 0, weighted / covered.clamp_min(1e-12), pattern)
        mask = covered
    return Patch(mask, pattern.clamp(0, 1))
