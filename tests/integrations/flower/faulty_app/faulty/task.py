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
MARK = "the server was killed"


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(8, *SHAPE, generator=random), torch.arange(8) % 2


def client_data(context: Context) -> tuple[Tensor, Tensor]:
    return data(1 + int(context.node_config["partition-id"]))


class KillingOnce:
    """Says clean, once it has killed its process."""

    needs = frozenset({Need.REFERENCE})

    def __call__(self, case: Case, rng: object, progress: Progress) -> Finding:
        mark = Path(os.environ["FLWR_HOME"]) / MARK
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Finding("killing-once", "clean", "Nothing was looked for.", 0.0, 1.0)


make = KillingOnce
