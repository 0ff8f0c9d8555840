"""How many threads a command computes with."""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import median

import torch

SMALL = 10_000_000
"""Multiply-adds per image. Below, threads wait for each other longer than they compute: on two cores a scan of an MNIST
ConvNet (0.9 million) took 2.3 s of processor time with one thread and 2.9 to 8.7 s with two, and longer by the clock as
soon as anything else ran. A ResNet-18 on 32x32 images has 555 million."""

_LOOKS, _PAUSE = 7, 0.01


def choose_threads(cost: int, device: torch.device, load: Path = Path("/proc/loadavg")) -> None:
    """Let torch compute with one thread for a small model on a CPU, else with as many as there are idle cores.

    A thread without a core of its own keeps all others waiting at the end of each operation. ``OMP_NUM_THREADS``
    decides if it is set.

    Args:
        cost: multiply-adds for one image.
        device: of the model.
        load: the system's file of that name.
    """
    if device.type != "cpu" or "OMP_NUM_THREADS" in os.environ:
        return
    idle = (os.cpu_count() or 1) - _busy(load)
    torch.set_num_threads(1 if cost < SMALL else max(1, min(torch.get_num_threads(), idle)))


def _busy(load: Path) -> int:
    """How many threads of other programs run or wait for a core just now; 0 where the system doesn't tell."""
    running = []
    for _ in range(_LOOKS):
        try:
            running.append(int(load.read_text(encoding="ascii").split()[3].partition("/")[0]) - 1)
        except (OSError, ValueError, IndexError):
            return 0
        time.sleep(_PAUSE)
    return max(0, int(median(running)))
