"""A federation of seconds, and a detector that sees the planted trigger."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fedmend.detection import Case, Finding, Need
from fedmend.progress import Progress
from fedmend.seeds import generator

CLASSES = 4
GUARD = {"detectors": ["tiny_federation:Cornered"], "warm_up": 1, "repair": "none"}


def images(count: int = 80) -> tuple[Tensor, Tensor]:
    """Class c has a bright block at columns 4c to 4c+3; uint8 (N, 1, 8, 16)."""
    labels = torch.arange(count) % CLASSES
    pixels = torch.randint(0, 120, (count, 1, 8, 16), generator=generator(0, "noise"), dtype=torch.uint8)
    for image, label in zip(pixels, labels.tolist(), strict=True):
        image[0, 5:, 4 * label : 4 * label + 4] += 100
    return pixels, labels


def linear(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> torch.nn.Module:
    """A linear classifier."""
    inputs = in_channels * image_size[0] * image_size[1]
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(inputs, num_classes))


def tables(source: str) -> dict[str, Any]:
    """Two rounds, the second of which is attacked by one of three clients, with success."""
    return {
        "data": {"source": source},
        "model": {"architecture": "tiny_federation:linear"},
        "training": {"epochs": 2, "batch_size": 8, "optimizer": "sgd", "lr": 0.05},
        "federation": {"clients": 3, "clients_per_round": 3, "rounds": 2},
        "attack": [
            {
                "first_round": 2,
                "trigger": {"kind": "box", "top": 0, "left": 0},
                "goal": {"kind": "all-to-one", "target": 2},
                "update": [{"kind": "amplify", "factor": 8.0}],
            }
        ],
    }


class Cornered:
    """Backdoored if the suspect sends many more images with a white corner to one class than the reference."""

    needs = frozenset({Need.REFERENCE, Need.IMAGES})

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        assert case.reference is not None
        stamped = case.pixels.clone()
        stamped[:, :, :3, :3] = 1
        with torch.no_grad():
            rates = [
                model(stamped).argmax(1).bincount(minlength=CLASSES) / len(stamped)
                for model in (case.suspect, case.reference)
            ]
        shift = float((rates[0] - rates[1]).max())
        verdict: Any = "backdoored" if shift > 0.25 else "clean"
        return Finding("cornered", verdict, f"A white corner moves {shift:.0%} more.", shift, 0.25)
