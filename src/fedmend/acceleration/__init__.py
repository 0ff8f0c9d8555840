"""Models that compute the same in less time; see README.md beside this file."""

from fedmend.acceleration.accelerating import SWITCH, Accelerated, accelerate

__all__ = ["SWITCH", "Accelerated", "accelerate"]
