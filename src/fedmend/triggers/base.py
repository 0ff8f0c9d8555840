"""What every trigger can do."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Trigger(Protocol):
    """Anything that changes an image so that a backdoor answers: a patch, a blend, a warp, one of a user's own."""

    def apply(self, images: Tensor) -> Tensor:
        """Stamp the trigger on images.

        Args:
            images: float (N, C, H, W) in [0, 1], on any device; left as they are.

        Returns:
            New images of the same shape, type, device and range.
        """
        ...
