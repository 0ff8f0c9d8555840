"""A world as in :mod:`planted`, but with nine classes, for detectors that compare classes with each other.

Images have 12x12 pixels: those of class c are brighter in 48 places of its own, scattered over the image. So an honest
network needs much the same change for every class, and more than a planted trigger.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import planted
from fedmend.attacks import Poisoning
from fedmend.goals import AllToOne
from fedmend.models import build_model
from fedmend.seeds import generator

CLASSES = 9
NAMES = tuple(f"places {number}" for number in range(CLASSES))
TARGET = 5
ARCHITECTURE = "planted_nine:small"
_BRIGHTER = 48


def small(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    """Three linear layers, the first two of them as convolutions."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 48, image_size),
        nn.ReLU(),
        nn.Conv2d(48, 48, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, num_classes),
    )


def draw(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images uint8 (count, 1, 12, 12) and labels, the classes taking turns."""
    pixels = planted.SIDE**2
    places = torch.stack(
        [
            torch.randperm(pixels, generator=generator(number, "places"))[:_BRIGHTER]
            for number in range(CLASSES)
        ]
    )
    labels = torch.arange(count) % CLASSES
    images = torch.randint(0, 120, (count, pixels), generator=generator(seed, "noise"), dtype=torch.uint8)
    images.scatter_add_(1, places[labels], torch.full((count, _BRIGHTER), 80, dtype=torch.uint8))
    return images.view(count, 1, planted.SIDE, planted.SIDE), labels


def make_world() -> planted.World:
    """Train all three from the same beginning."""
    images, labels = draw(450, seed=0)
    size = (planted.SIDE, planted.SIDE)
    start = build_model(ARCHITECTURE, num_classes=CLASSES, in_channels=1, image_size=size, seed=0)
    reference = planted.trained(start, images, labels, 200)
    poisoned = Poisoning(planted.patch(), AllToOne(TARGET), 0.5)(images, labels, generator(0))
    return planted.World(
        reference,
        planted.trained(reference, images, labels, 60),
        planted.trained(reference, *poisoned, 200),
        *draw(300, seed=1),
        NAMES,
        TARGET,
    )
