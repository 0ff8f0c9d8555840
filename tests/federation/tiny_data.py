"""Images of 8x16 pixels that a linear model can tell apart: class c has a bright block at columns 4c to 4c+3."""

from __future__ import annotations

from typing import Any

import torch

from fedmend.data import ImageSet
from fedmend.federation import SimulationConfig, parse_config
from fedmend.seeds import generator

CLASSES = 4


def image_set(count: int, seed: int = 0) -> ImageSet:
    labels = torch.arange(count) % CLASSES
    images = torch.randint(0, 120, (count, 1, 8, 16), generator=generator(seed, "noise"), dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 5:, 4 * label : 4 * label + 4] += 100
    return ImageSet(images, labels, tuple("abcd"))


def data() -> tuple[ImageSet, ImageSet]:
    return image_set(64), image_set(32, seed=1)


def settings(**tables: Any) -> SimulationConfig:
    """Four clients, three of them a round, for three rounds; each table given is added to these."""
    base: dict[str, dict[str, Any]] = {
        "model": {"architecture": "tiny_nets:linear"},
        "training": {"epochs": 1, "batch_size": 8, "optimizer": "sgd", "lr": 0.05},
        "federation": {"clients": 4, "clients_per_round": 3, "rounds": 3},
    }
    merged: dict[str, Any] = {"seed": 5, **base}
    for name, value in tables.items():
        merged[name] = base.get(name, {}) | value if isinstance(value, dict) else value
    return parse_config(merged)
