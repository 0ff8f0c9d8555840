"""Normalisation as a model's first layer, so that everything outside a model works on pixels in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """``(x - mean) / std``, per channel.

    Mean and deviation are constants of the architecture: they have no gradient and aren't in the
    ``state_dict``, so they are neither averaged by a federation nor read from a model file.

    Args:
        mean: one number for all channels, or one per channel; in units of pixels in [0, 1].
        std: likewise, positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Sequence[float] = 0.5, std: float | Sequence[float] = 0.5) -> None:
        super().__init__()
        self.register_buffer("mean", _column(mean), persistent=False)
        self.register_buffer("std", _column(std), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Float (N, C, H, W) in [0, 1] to the same shape; with the defaults, in [-1, 1]."""
        return (images - self.mean) / self.std

    def extra_repr(self) -> str:
        """The constants, for ``print(model)``."""
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"


def _column(values: float | Sequence[float]) -> Tensor:
    return torch.tensor([values] if isinstance(values, int | float) else list(values)).float().view(-1, 1, 1)
