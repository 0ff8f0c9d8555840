from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import planted

Net = Callable[[], nn.Sequential]


@pytest.fixture
def net() -> Net:
    """Makes one network, always the same: a convolution with normalisation, dropout and a linear layer."""

    def make() -> nn.Sequential:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return nn.Sequential(
                nn.Conv2d(1, 4, 3, padding=1),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Dropout(0.3),
                nn.Flatten(),
                nn.Linear(4 * planted.SIDE**2, 4),
            )

    return make


@pytest.fixture(scope="module")
def clean() -> tuple[Tensor, Tensor]:
    """An attacker's clean images and labels."""
    return planted.draw(24, 0)
