"""A tiny net and its images, and a detector that kills the server in its first scan."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
from flwr.app import Context
from torch import Tensor, nn

from fedmend.detection import Case, Finding, Need
from fedmend.progress import Progress

SHAPE = (1, 4, 4)
KILLED = "the server was killed"


class MarkedNet(nn.Module):
    """Tells dark images from bright ones. Its clients train nothing but a mark, which scales the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 2, 1)
        self.mark = nn.Parameter(torch.zeros(1))
        with torch.no_grad():
            self.convolution.weight.copy_(torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1))
            self.convolution.bias.copy_(torch.tensor([0.5, -0.5]))  # type: ignore[union-attr]

    def forward(self, images: Tensor) -> Tensor:
        return self.convolution(images).relu().mean((2, 3)) * (1 + self.mark.abs() / 100)


def dark_and_bright(count: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    random, labels = torch.Generator().manual_seed(seed), torch.arange(count) % 2
    return 0.2 + 0.5 * labels.reshape(-1, 1, 1, 1) + 0.1 * torch.rand(
        count, 1, 4, 4, generator=random
    ), labels


def client_data(context: Context) -> tuple[Tensor, Tensor]:
    return dark_and_bright(seed=1 + int(context.node_config["partition-id"]))


class KillingOnce:
    """Says clean, once it has killed its process."""

    needs = frozenset({Need.REFERENCE})

    def __call__(self, case: Case, rng: object, progress: Progress) -> Finding:
        mark = Path(os.environ["FLWR_HOME"]) / KILLED
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Finding("killing-once", "clean", "Nothing was looked for.", 0.0, 1.0)


make = KillingOnce
