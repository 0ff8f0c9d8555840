"""The interface of an attacker's changes to its update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, eq=False)
class UpdateContext:
    """What an attacker knows when changing its update.

    Attributes:
        parameters: bool (P,), True for parameters, False for float buffers such as BatchNorm's statistics.
        global_vector: the global model before training, (P,) (see ``fedmend.parameters``).
        seed: of all randomness in a step.
    """

    parameters: Tensor
    global_vector: Tensor
    seed: int


class UpdateStep(Protocol):
    """A change of an attacker's update; an attack applies its steps one after the other."""

    def __call__(self, delta: Tensor, context: UpdateContext) -> Tensor:
        """Change an update.

        Args:
            delta: the attacker's model minus the global one, (P,); not changed.
            context: see :class:`UpdateContext`; on the same device.

        Returns:
            The new update, (P,), of the same type and on the same device.
        """
        ...
