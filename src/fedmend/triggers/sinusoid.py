"""A faint horizontal sine over the whole image (SIG: Barni, Kallas and Tondi 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fedmend.checked_settings import Positive, PositiveFraction, settings
from fedmend.triggers.base import require_float


@settings
class Sinusoid:
    """Brighten and darken columns: ``x'_ij = x_ij + amplitude * sin(2 pi j frequency / W)`` (Barni et al., 3).

    The result is clamped to [0, 1]. Columns are counted from 0, not from 1 as in the paper: a shift by one column.

    Attributes:
        amplitude: in (0, 1]; the paper's is 20/255 to 60/255.
        frequency: periods across the image; the paper's is 6.
    """

    amplitude: PositiveFraction = 20 / 255
    frequency: Positive = 6.0

    def apply(self, images: Tensor) -> Tensor:
        """See :class:`Trigger`; images of any height and width, grey or coloured.

        Raises:
            DataError: the images aren't floats.
        """
        require_float(images)
        width = images.shape[-1]
        columns = torch.arange(width, device=images.device) * (2 * math.pi * self.frequency / width)
        return (images + self.amplitude * columns.sin()).clamp(0, 1).to(images.dtype)
