"""The interfaces of triggers."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from fedmend.errors import ConfigError, DataError
from fedmend.pixels import to_float, to_uint8
from fedmend.user_code import failures_named, is_users, name_of, tensor_in_words

_ROUNDING = 1e-3  # of half precision


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


def stamp(trigger: Trigger, images: Tensor) -> Tensor:
    """Stamp a trigger, maybe one of the user's own, on float images (N, C, H, W) in [0, 1].

    Raises:
        ConfigError: a user's own trigger failed, or returned something else than images like those it was given.
    """
    if not is_users(trigger):
        return trigger.apply(images)
    with failures_named("trigger", trigger):
        stamped = trigger.apply(images)
    flaw = _flaw(stamped, images)
    if flaw is not None:
        raise ConfigError(
            f"the trigger {name_of(trigger)} must turn images into images like them; apply returned {flaw}"
        )
    return stamped


def stamp_stored(trigger: Trigger, images: Tensor) -> Tensor:
    """Stamp a trigger on stored images, uint8 (N, C, H, W), and round the result to uint8."""
    return to_uint8(stamp(trigger, to_float(images)))


def _flaw(stamped: object, images: Tensor) -> str | None:
    if not isinstance(stamped, Tensor):
        return f"a {type(stamped).__name__}, expected a tensor"
    if (stamped.shape, stamped.dtype, stamped.device) != (images.shape, images.dtype, images.device):
        return f"{tensor_in_words(stamped)} for {tensor_in_words(images)}"
    if bool(stamped.isnan().any()):
        return "NaN; look for a division by zero or a root of a negative number"
    if not bool(((stamped >= -_ROUNDING) & (stamped <= 1 + _ROUNDING)).all()):
        return "values outside [0, 1]; clamp them"
    return None


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
