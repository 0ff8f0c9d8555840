"""At which scale the contrastive paper's experiments are run: dataset, network, and how long is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedmend.local_training import LocalTraining


@dataclass(frozen=True)
class Scale:
    """A dataset with a network and the length of its federations.

    Attributes:
        name: such as ``mnist-short``; the name of its results file.
        dataset: the paper's dataset: ``mnist``, ``cifar10`` or ``gtsrb``; also fedmend's source.
        label: what the tables call it.
        architecture, arguments: the network.
        training: what an honest client does in a round.
        trunk_rounds: the number of the shared trunk's last round, after which attacks begin.
        rounds: rounds under attack.
        start_lrs: Adam's learning rate of each epoch of a central pre-training of the trunk; empty: there is none.
        start_images: images of such an epoch.
        amplification: of an attacker's update, for SBA and for DBA.
        full: whether federations have the paper's number of rounds.
    """

    name: str
    dataset: str
    label: str
    architecture: str
    training: LocalTraining
    trunk_rounds: int
    rounds: int
    arguments: Mapping[str, int] = field(default_factory=dict)
    start_lrs: tuple[float, ...] = ()
    start_images: int = 0
    amplification: Mapping[str, float] = field(default_factory=lambda: {"sba": 4.0, "dba": 2.0})
    full: bool = False

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (1, 28, 28) if self.dataset == "mnist" else (3, 32, 32)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return 43 if self.dataset == "gtsrb" else 10


_MNIST = LocalTraining(epochs=3, batch_size=64, lr=0.002)
_COLOURED = LocalTraining(epochs=1, batch_size=32, lr=0.0005, images_per_epoch=500)
_COLOURED_FACTORS = {
    "sba": 2.0,
    "dba": 1.0,
}  # BatchNorm's statistics aren't amplified; a large factor ruins accuracy

SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            "mnist-short",
            "mnist",
            "MNIST, ConvNet, 20 + 6 rounds",
            "convnet",
            LocalTraining(epochs=3, batch_size=64, lr=0.002, images_per_epoch=600),
            trunk_rounds=20,
            rounds=6,
        ),
        Scale(
            "mnist",
            "mnist",
            "MNIST, ConvNet, the paper's 60 rounds",
            "convnet",
            _MNIST,
            trunk_rounds=20,
            rounds=40,
            full=True,
        ),
        Scale(
            "cifar10-narrow",
            "cifar10",
            "CIFAR-10, ResNet18 of width 8 (CPU scale)",
            "resnet18",
            _COLOURED,
            trunk_rounds=6,
            rounds=6,
            arguments={"width": 8},
            start_lrs=(0.004, 0.003, 0.002, 0.001, 0.0004),
            start_images=50_000,
            amplification=_COLOURED_FACTORS,
        ),
        Scale(
            "gtsrb-narrow",
            "gtsrb",
            "GTSRB, ResNet-34 of width 8 (CPU scale)",
            "resnet34",
            _COLOURED,
            trunk_rounds=6,
            rounds=6,
            arguments={"width": 8},
            start_lrs=(0.004, 0.003, 0.002, 0.001, 0.0004),
            start_images=39_000,
            amplification=_COLOURED_FACTORS,
        ),
    )
}
