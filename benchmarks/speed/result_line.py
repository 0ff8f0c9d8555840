"""What fedmend_engine.py and flower_engine.py both count and print."""

from __future__ import annotations

import platform
from typing import Any

import torch

from fedmend.local_training import LocalTraining


def samples_of(training: LocalTraining, images: int) -> int:
    """On how many images a client that has so many trains in a round, each counted as often as it is used."""
    return training.epochs * min(images, training.images_per_epoch or images)


def result_line(
    seconds: float, round_seconds: float, samples: int, accuracy: float, threads: int
) -> dict[str, Any]:
    """A run's line.

    Args:
        seconds: the whole run, imports and reading the images included.
        round_seconds: its rounds alone.
        samples: how many images were trained on, each as often as it was.
        accuracy: of the last model on the test images.
        threads: of torch in a process that trains.
    """
    return {
        "seconds": seconds,
        "round_seconds": round_seconds,
        "samples": samples,
        "samples_per_second": samples / seconds,
        "samples_per_second_of_rounds": samples / round_seconds,
        "accuracy": accuracy,
        "threads": threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
