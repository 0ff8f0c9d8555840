"""The interfaces of triggers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor

from fedmend.errors import DataError
from fedmend.pixels import to_float, to_uint8

if TYPE_CHECKING:
    from fedmend.triggers.patch import Patch


class Trigger(Protocol):
    """Anything that changes an image to activate a backdoor, such as a patch, a blend or a warp."""

    def apply(self, images: Tensor) -> Tensor:
        """Stamp the trigger on images.

        Args:
            images: float (N, C, H, W) in [0, 1], on any device; not changed.

        Returns:
            New images of the same shape, type, device and range.
        """
        ...


@runtime_checkable
class Divisible(Trigger, Protocol):
    """A trigger that several attackers can divide among themselves (DBA; contrastive paper, 3.4)."""

    def parts(self) -> tuple[Trigger, ...]:
        """Two or more triggers that together form this one."""
        ...


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


def stamp_stored(trigger: Trigger, images: Tensor) -> Tensor:
    """Stamp a trigger on stored images, uint8 (N, C, H, W), and round the result to uint8."""
    return to_uint8(trigger.apply(to_float(images)))


def require_float(images: Tensor) -> None:
    """Refuse stored images.

    Raises:
        DataError: the images are not floats.
    """
    if not images.is_floating_point():
        raise DataError(
            f"a trigger is stamped on float images in [0, 1]; got {images.dtype}: divide bytes by 255"
        )


def require_shape(images: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse images of another shape than the trigger's.

    Raises:
        DataError: the images are not (N, C, H, W) with (C, H, W) = ``shape``.
    """
    if tuple(images.shape[1:]) != shape:
        raise DataError(
            f"this trigger is for images of shape (C, H, W) = {shape}; got images of shape {tuple(images.shape[1:])}"
        )
