"""Models that compute the same in less time."""

from fedmend.acceleration.half_precision import InHalfPrecision
from fedmend.acceleration.lighter import lighter

__all__ = ["InHalfPrecision", "lighter"]
