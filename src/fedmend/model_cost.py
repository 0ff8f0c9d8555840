"""What one image costs in a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedmend.errors import ModelError
from fedmend.user_code import failures_as


def multiply_adds(model: nn.Module, image: Tensor) -> int:
    """Multiply-adds of the convolutions and matrix products for one image.

    Args:
        model: in eval mode.
        image: (C, H, W), of the model's dtype and on its device.

    Raises:
        ModelError: the model fails on a single image.
    """
    from torch.utils.flop_counter import FlopCounterMode

    # With a gradient, or torch's transformers take a fused path that can't be counted.
    failed = f"the model failed on images of shape (N, C, H, W) = {(1, *image.shape)}"
    with (
        failures_as(ModelError, failed),
        torch.enable_grad(),
        FlopCounterMode(display=False) as counter,
    ):
        model(image[None].detach().requires_grad_().clone())  # a copy, which a model may work on in place
    return int(counter.get_total_flops()) // 2
