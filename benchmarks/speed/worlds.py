"""The models and images on which scans are timed: a reference, a backdoored and a clean successor for each data set.

MNIST's are the detection benchmark's. The others are trained here for a few epochs, by train.py: enough for a model
that has learned something and a backdoor that works.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedmend.models import ResNet, resnet18

BENCHMARKS = Path(__file__).resolve().parents[1]
RUNS = BENCHMARKS / "runs" / "speed"
DETECTION = BENCHMARKS / "runs" / "detection"
MODELS = ("backdoored", "clean")


@dataclass(frozen=True)
class World:
    """One data set's models.

    Attributes:
        source: the data set.
        architecture: as fedmend.models.build_model takes it.
        scan_images: how many images a scan gets: three a class, as in the contrastive paper.
        train_images: how many of the training images are used; 0 where the models come from elsewhere.
        epochs: of the reference; each successor has one more.
    """

    source: str
    architecture: str
    scan_images: int
    train_images: int = 0
    epochs: int = 0

    def checkpoint(self, name: str) -> Path:
        """The weights of "reference", "backdoored" or "clean"."""
        if self.train_images:
            return RUNS / self.source / f"{name}.safetensors"
        found = {"reference": "trunk", "backdoored": "sba-plus", "clean": "clean-0"}[name]
        return max((DETECTION / self.source / found / "checkpoints").glob("round-*.safetensors"))

    @property
    def images(self) -> Path:
        """The images of the scan with their labels."""
        return RUNS / self.source / "images.safetensors"


WORLDS = {
    "mnist": World("mnist", "convnet", 30),
    "cifar10": World("cifar10", "worlds:narrow_resnet18", 30, train_images=40_000, epochs=6),
    "gtsrb": World("gtsrb", "resnet34", 129, train_images=20_000, epochs=5),
}


def narrow_resnet18(*, num_classes: int, in_channels: int) -> ResNet:
    """The contrastive paper's network for CIFAR-10, with a quarter of the channels."""
    return resnet18(num_classes=num_classes, in_channels=in_channels, width=16)
