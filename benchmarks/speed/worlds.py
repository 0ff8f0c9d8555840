"""The models and images on which scans are timed: a reference, a backdoored and a clean successor for each data set.

MNIST's are the detection benchmark's. The others are trained here for a few epochs, by train.py: enough for a model
that has learned something and a backdoor that works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedmend.models import ResNet, resnet18
from fedmend.triggers import AtomShape

BENCHMARKS = Path(__file__).resolve().parents[1]
RUNS = BENCHMARKS / "runs" / "speed"
DETECTION = BENCHMARKS / "runs" / "detection"
MODELS = ("backdoored", "clean")


@dataclass(frozen=True)
class Backdoor:
    """Red, green and blue atoms of a shape, the first at (top, left), and the class to which they send an image."""

    shape: AtomShape
    target_class: int
    top: int = 2
    left: int = 2


@dataclass(frozen=True)
class World:
    """One data set's models.

    Attributes:
        name: of the world.
        source: the data set.
        architecture: as fedmend.models.build_model takes it.
        scan_images: how many images a scan gets: three a class, as in the contrastive paper.
        train_images: how many of the training images are used; 0 where the models come from elsewhere.
        epochs: of the reference; each successor has one more.
        seed: of the images and of the training.
        successors: of the reference, by name.
    """

    name: str
    source: str
    architecture: str
    scan_images: int
    train_images: int = 0
    epochs: int = 0
    seed: int = 0
    successors: Mapping[str, Backdoor | None] = field(
        default_factory=lambda: {"backdoored": Backdoor("+", 2), "clean": None}
    )

    def checkpoint(self, name: str) -> Path:
        """The weights of "reference" or of a successor."""
        if self.train_images:
            return RUNS / self.name / f"{name}.safetensors"
        found = {"reference": "trunk", "backdoored": "sba-plus", "clean": "clean-0"}[name]
        return max((DETECTION / self.source / found / "checkpoints").glob("round-*.safetensors"))

    @property
    def images(self) -> Path:
        """The images of the scan with their labels."""
        return RUNS / self.name / "images.safetensors"


WORLDS = {
    world.name: world
    for world in (
        World("mnist", "mnist", "convnet", 30),
        World(
            *("cifar10", "cifar10", "worlds:narrow_resnet18", 30),
            train_images=40_000,
            epochs=6,
            successors={
                "backdoored": Backdoor("+", 2),
                "clean": None,
                "h-9": Backdoor("H", 9, top=20, left=15),
                "1-8": Backdoor("1", 8, top=10, left=4),
            },
        ),
        World("gtsrb", "gtsrb", "resnet34", 129, train_images=20_000, epochs=5),
    )
}
DEVELOPMENT = World(
    *("cifar10-development", "cifar10", "worlds:narrow_resnet18", 30),
    train_images=20_000,
    epochs=6,
    seed=1,
    successors={
        "clean": None,
        "h-7": Backdoor("H", 7),
        "1-4": Backdoor("1", 4),
        "+-5": Backdoor("+", 5, top=25, left=17),
        "1-0": Backdoor("1", 0, top=14, left=10),
    },
)
"""What the search's settings are chosen on, so that the others' verdicts are a test."""


def narrow_resnet18(*, num_classes: int, in_channels: int) -> ResNet:
    """The contrastive paper's network for CIFAR-10, with a quarter of the channels."""
    return resnet18(num_classes=num_classes, in_channels=in_channels, width=16)
