"""Triggers that are drawn from a few settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

from torch import Tensor

from fedmend.triggers.patch import Patch


class Drawing(ABC):
    """A trigger drawn from a few settings: a patch for images of a given shape."""

    @abstractmethod
    def draw(self) -> Patch:
        """Draw the patch."""

    @cached_property
    def patch(self) -> Patch:
        """The drawn patch."""
        return self.draw()

    def apply(self, images: Tensor) -> Tensor:
        """See :class:`Patch`."""
        return self.patch.apply(images)
