"""What a search of a trigger for every class has found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from fedmend.triggers import Addition, Patch

T_co = TypeVar("T_co", bound=Patch | Addition, covariant=True)


@dataclass(frozen=True, eq=False)
class Inverted(Generic[T_co]):
    """The trigger recovered for each class.

    Attributes:
        triggers: one a class, on the images' device.
        norms: L1 norms of the patches' masks, in pixels, or of the additions, (classes,).
        reached: whether the trigger came to the success that the schedule asks for, bool (classes,); otherwise it is
            the last one.
        stop_reason: why the search ended.
    """

    triggers: tuple[T_co, ...]
    norms: Tensor
    reached: Tensor
    stop_reason: str

    def warnings(self, class_name: Callable[[int], str]) -> tuple[str, ...]:
        """A warning that names the classes for which no trigger worked, if there are any."""
        failed = (~self.reached).nonzero().flatten().tolist()
        if not failed:
            return ()
        named = ", ".join(f'"{class_name(number)}"' for number in failed)
        return (
            f"No trigger came to the success that the search asks for: {named}. The last one stands for it.",
        )
