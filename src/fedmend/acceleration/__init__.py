"""Makes models faster without changing their predictions; see README.md in this folder."""

from fedmend.acceleration.accelerating import SWITCH, Accelerated, accelerate

__all__ = ["SWITCH", "Accelerated", "accelerate"]
