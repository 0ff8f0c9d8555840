"""A federation on images that a linear model can tell apart, and a detector that stamps the planted trigger.

Class c has a bright block at columns 4c to 4c+3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fedmend.data import ImageSet
from fedmend.detection import Case, Finding, Need
from fedmend.federation import Federation, SimulationConfig, build_federation, parse_config
from fedmend.progress import Progress
from fedmend.seeds import generator

CLASSES = 4
TARGET = 2


def linear(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    """A linear classifier."""
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size[0] * image_size[1], num_classes))


def _images(count: int, seed: int) -> ImageSet:
    labels = torch.arange(count) % CLASSES
    images = torch.randint(0, 120, (count, 1, 8, 16), generator=generator(seed, "noise"), dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 5:, 4 * label : 4 * label + 4] += 100
    return ImageSet(images, labels, tuple("abcd"))


def data() -> tuple[ImageSet, ImageSet]:
    """Training and test images."""
    return _images(320, 0), _images(80, 1)


class Stamped:
    """Backdoored if the suspect sends many more images with a white corner to one class than the reference."""

    needs = frozenset({Need.REFERENCE, Need.IMAGES})

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        assert case.reference is not None
        stamped = case.pixels.clone()
        stamped[:, :, :3, :3] = 1
        rates = [self._rates(model, stamped) for model in (case.suspect, case.reference)]
        shift = float((rates[0] - rates[1]).max())
        verdict: Any = "backdoored" if shift > 0.25 else "clean"
        return Finding("stamped", verdict, f"A white corner moves {shift:.0%} more.", shift, 0.25)

    def _rates(self, model: nn.Module, images: Tensor) -> Tensor:
        with torch.no_grad():
            return model(images).argmax(1).bincount(minlength=CLASSES) / len(images)


def corner(image_shape: tuple[int, int, int]) -> Any:
    """The planted trigger: a white corner."""
    from fedmend.triggers import Patch

    mask = torch.zeros(image_shape)
    mask[:, :3, :3] = 1
    return Patch(mask, mask.clone())


def config(**tables: Any) -> SimulationConfig:
    """Four rounds with server momentum, two of them a warm-up, and an attack in the others; tables are added to."""
    base: dict[str, Any] = {
        "seed": 5,
        "model": {"architecture": "guarded_federation:linear"},
        "training": {"epochs": 2, "batch_size": 8, "optimizer": "sgd", "lr": 0.05},
        "federation": {"clients": 8, "clients_per_round": 4, "rounds": 4},
        "aggregation": {"kind": "fedavgm", "momentum": 0.5},
        "guard": {"detectors": ["guarded_federation:Stamped"], "repair": "none", "warm_up": 2},
    }
    attack: dict[str, Any] = {
        "first_round": 3,
        "trigger": {"kind": "guarded_federation:corner"},
        "goal": {"kind": "all-to-one", "target": TARGET},
        "update": [{"kind": "amplify", "factor": 8.0}],
    }
    merged = {
        name: value | tables.get(name, {}) if isinstance(value, dict) else tables.get(name, value)
        for name, value in base.items()
    }
    return parse_config(merged | {"attack": [attack | tables.get("attack", {})]})


def built(settings: SimulationConfig) -> Federation:
    """The federation with its clients."""
    return build_federation(settings, data()[0], "cpu")
