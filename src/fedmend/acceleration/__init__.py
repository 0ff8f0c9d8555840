"""Makes models faster without changing their predictions; see README.md in this folder."""

from fedmend.acceleration.accelerating import Accelerated, accelerate

__all__ = ["Accelerated", "accelerate"]
