"""Models that compute the same in less time."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from fedmend.acceleration.half_precision import InHalfPrecision
from fedmend.acceleration.lighter import lighter

__all__ = ["Accelerated", "accelerate"]


@dataclass(frozen=True, eq=False)
class Accelerated:
    """A model that computes the same in less time, and what a reader of the results should know of it."""

    model: nn.Module
    notes: tuple[str, ...] = ()


def accelerate(model: nn.Module, images: Tensor, *, half: bool = False) -> Accelerated:
    """The model in a form that takes less time."""
    faster = lighter(model, images, half=half)
    notes = ("searched in bfloat16; evidence in float32",) if isinstance(faster, InHalfPrecision) else ()
    return Accelerated(faster, notes)
