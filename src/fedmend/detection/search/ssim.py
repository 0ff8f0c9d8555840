"""Structural similarity (SSIM) to fixed clean images, with their own statistics computed once."""

from __future__ import annotations

import torch
from torch import Tensor

_C1, _C2 = 0.01**2, 0.03**2
_WINDOW, _SIGMA = 11, 1.5


class SsimTo:
    """Mean SSIM of a batch to fixed clean images (Wang et al. 2004: 11x11 Gaussian window, sigma 1.5, range 1).

    Only windows inside the image are used. The window is separable: one product with a banded matrix for the rows, one
    for the columns. Images under 11 pixels get the largest odd window that fits.

    Args:
        clean: float (N, C, H, W) in [0, 1].
    """

    def __init__(self, clean: Tensor) -> None:
        height, width = clean.shape[-2:]
        self._rows = _band(height, clean)
        self._columns = _band(width, clean).T.contiguous()
        self._clean = clean
        self._mean = self._blur(clean)
        self._variance = self._blur(clean * clean) - self._mean**2

    def __call__(self, images: Tensor, chosen: Tensor) -> Tensor:
        """The mean SSIM of S groups of images to their clean originals, (S,) in [-1, 1]; differentiable.

        Args:
            images: float (S, K, C, H, W).
            chosen: indices of their clean originals, int64 (S, K).
        """
        clean, clean_mean, clean_variance = self._clean[chosen], self._mean[chosen], self._variance[chosen]
        mean, square, product = self._blur(torch.stack([images, images * images, images * clean]))
        variance, covariance = square - mean**2, product - mean * clean_mean
        luminance = (2 * mean * clean_mean + _C1) / (mean**2 + clean_mean**2 + _C1)
        structure = (2 * covariance + _C2) / (variance + clean_variance + _C2)
        similarity: Tensor = (luminance * structure).flatten(1).mean(1)
        return similarity

    def _blur(self, images: Tensor) -> Tensor:
        return self._rows @ images @ self._columns


def _band(size: int, like: Tensor) -> Tensor:
    window = min(_WINDOW, size - 1 + size % 2)
    offsets = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    kernel = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    kernel /= kernel.sum()
    band = torch.zeros(size - window + 1, size, dtype=torch.float64)
    for row in range(len(band)):
        band[row, row : row + window] = kernel
    return band.to(like)
