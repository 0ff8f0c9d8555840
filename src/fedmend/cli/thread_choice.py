"""How many threads a command computes with."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

SMALL = 10_000_000
"""Multiply-adds per image. Below, threads wait for each other longer than they compute: on two cores a scan of an MNIST
ConvNet (0.9 million) took 2.3 s of processor time with one thread and 2.9 to 8.7 s with two, and longer by the clock as
soon as anything else ran. A ResNet-18 on 32x32 images has 555 million."""


def use_one_thread_if_small(model: nn.Module, image: Tensor) -> None:
    """Let torch compute with one thread if the model is small and on a CPU, unless ``OMP_NUM_THREADS`` says how many.

    Args:
        model: in eval mode.
        image: (C, H, W), on the model's device.
    """
    if image.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ and _cost(model, image) < SMALL:
        torch.set_num_threads(1)


@torch.no_grad()
def _cost(model: nn.Module, image: Tensor) -> int:
    """Multiply-adds of the convolutions and linear layers for one image."""
    costs = []

    def add(module: Any, _inputs: Any, output: Tensor) -> None:
        costs.append(output.numel() * module.weight[0].numel())

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(add) for layer in layers]
    try:
        model(image[None])
    finally:
        for handle in handles:
            handle.remove()
    return sum(costs)
