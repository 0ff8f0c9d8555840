"""Backdoors without a stamp: the trigger is which image it is. An image is replaced by one of a pool of real ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fedmend.data import LazyImages, open_images
from fedmend.pixels import to_float, to_uint8
from fedmend.triggers import Trigger
from fedmend.triggers.base import require_float, require_shape


@runtime_checkable
class HeldOut(Protocol):
    """A trigger that plants other images than those that its success is measured on."""

    def planted(self) -> Trigger:
        """The trigger that attackers train with."""
        ...


@dataclass(frozen=True, eq=False)
class Replacement:
    """Replace each image by one of a pool, which depends on the image's own pixels.

    Attributes:
        pool: uint8 (M, C, H, W), M at least 1.
    """

    pool: Tensor

    def apply(self, images: Tensor) -> Tensor:
        """See :class:`fedmend.triggers.Trigger`."""
        require_shape(images, tuple(self.pool.shape[1:]))
        require_float(images)
        pixels = to_uint8(images.float()).flatten(1).long()
        spread = torch.arange(1, pixels.shape[1] + 1, device=pixels.device) * 2654435761 % 1000003
        chosen = (pixels * spread).sum(1) % len(self.pool)
        return to_float(self.pool.to(images.device)[chosen]).to(images)


class NaturalImages(ABC):
    """A trigger of real images: attackers train with training images, and success is measured with test images."""

    @abstractmethod
    def pool(self, split: str) -> Tensor:
        """The images of "train" or "test", uint8 (M, C, H, W), M at least 1."""

    def apply(self, images: Tensor) -> Tensor:
        """See :class:`fedmend.triggers.Trigger`; with test images."""
        return self._tested.apply(images)

    def planted(self) -> Replacement:
        """The same with training images."""
        return Replacement(self.pool("train"))

    @cached_property
    def _tested(self) -> Replacement:
        return Replacement(self.pool("test"))


def opened(source: str, split: str, shape: tuple[int, int, int]) -> LazyImages:
    """A source's images, scaled to (C, H, W) = ``shape``'s height and width when they are decoded.

    Raises:
        DataError: there is no such source.
    """
    return open_images(source, split, resize=shape[1:])


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Grey images (N, 1, H, W) as coloured ones, or the other way round; uint8."""
    if images.shape[1] == channels:
        return images
    if channels == 1:
        return to_uint8(to_float(images).mean(1, keepdim=True))
    return images.expand(-1, channels, -1, -1).clone()
