"""What a search has computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(eq=False)
class Work:
    """Counts passes: one for an image that goes through one model, two if its gradient comes back.

    Attributes:
        passes: so far.
    """

    passes: int = 0

    def count(self, images: Tensor) -> None:
        """Count a pass of images (N, C, H, W), which may require a gradient."""
        back = torch.is_grad_enabled() and images.requires_grad
        self.passes += len(images) * (2 if back else 1)
