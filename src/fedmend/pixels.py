"""Converts images between storage (uint8) and models (float in [0, 1])."""

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """uint8 pixels to float32 in [0, 1]; floats are returned as they are."""
    return images.to(torch.float32).div_(255) if images.dtype == torch.uint8 else images


def to_uint8(images: Tensor) -> Tensor:
    """Floats in [0, 1] to the nearest uint8 pixels."""
    return images.mul(255).round_().clamp_(0, 255).to(torch.uint8)
