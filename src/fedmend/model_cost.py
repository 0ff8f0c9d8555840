"""What one image costs in a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def multiply_adds(model: nn.Module, image: Tensor) -> int:
    """Multiply-adds of the convolutions and matrix products for one image.

    Args:
        model: in eval mode.
        image: (C, H, W), of the model's dtype and on its device.
    """
    from torch.utils.flop_counter import FlopCounterMode

    # With a gradient, or torch's transformers take a fused path that can't be counted.
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        model(image[None].clone().requires_grad_())
    return int(counter.get_total_flops()) // 2
