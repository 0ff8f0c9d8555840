"""A user's own model, trigger, update step and rule, which use the global generators of Python, NumPy and torch."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def noise() -> float:
    return random.random() + float(np.random.rand()) + float(torch.rand(()))


class Net(nn.Module):
    """Jitters its input, and shifts it by a number that is drawn when it is made and is in no checkpoint."""

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.shift = noise()
        self.linear = nn.Linear(in_channels * image_size[0] * image_size[1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        jitter = noise() if self.training else 0.0
        logits: Tensor = self.linear((images + self.shift + jitter).flatten(1))
        return logits


class Trigger:
    """A faint brightening, drawn when it is made."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        self.by = noise() / 30

    def apply(self, images: Tensor) -> Tensor:
        return (images + self.by).clamp(0, 1)


def jittered(delta: Tensor, context: Any) -> Tensor:
    return delta * (1 + noise())


def step() -> Any:
    return jittered


def jittered_mean(updates: Any, state: Any) -> tuple[Tensor, dict[str, Tensor]]:
    return updates.deltas.mean(0) * noise(), {}


def rule() -> Any:
    return jittered_mean
