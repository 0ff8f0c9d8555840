"""The zoo's cells (a dataset with a network), its federations, and how each is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from fedmend.federation import DataConfig, FederationConfig, ModelConfig, SimulationConfig
from fedmend.local_training import LocalTraining


@dataclass(frozen=True)
class Cell:
    """A dataset with a network.

    Attributes:
        name: such as ``mnist-convnet``.
        source: the dataset.
        network: a built-in architecture or ``networks:factory``.
        classes: the classes kept, renumbered from 0; empty: all.
        start_images: images per epoch of the central pre-training.
        start_lrs: learning rate (Adam) of each of its epochs.
        rounds: of a trunk.
        attack_images: per epoch of an attacker.
    """

    name: str
    source: str
    network: str
    classes: tuple[int, ...] = ()
    start_images: int = 40_000
    start_lrs: tuple[float, ...] = (0.003, 0.001, 0.0003)
    rounds: int = 24
    attack_images: int = 1600

    @property
    def grey(self) -> bool:
        """Whether the images are grey, 28x28; else they are coloured, 32x32."""
        return "mnist" in self.source

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes) or (43 if self.source == "gtsrb" else 10)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (1, 28, 28) if self.grey else (3, 32, 32)


_CIFAR = (0.004, 0.003, 0.002, 0.001, 0.0004)
_CELLS = (
    Cell("mnist-convnet", "mnist", "convnet"),
    Cell("mnist-groupnorm", "mnist", "networks:group_norm", start_lrs=(0.004, 0.002, 0.0005)),
    Cell("fashion-three-conv", "fashion-mnist", "three-conv", start_images=60_000),
    Cell("gtsrb-vgg", "gtsrb", "networks:vgg", (), 39_000, (0.003, 0.002, 0.001, 0.0004), 16, 800),
    Cell("cifar-resnet18", "cifar10", "networks:resnet18", (), 50_000, _CIFAR, 16, 500),
    Cell("cifar-vit", "cifar10", "networks:vit", (), 25_000, (0.001, 0.001, 0.0004), 6, 500),
    Cell("mnist-3-8", "mnist", "convnet", (3, 8), 6_000, (0.002,), 12),
    Cell("mnist-0-1", "mnist", "convnet", (0, 1), 6_000, (0.002,), 12),
    Cell("mnist-4-9", "mnist", "convnet", (4, 9), 6_000, (0.002,), 12),
    Cell("fashion-0-6", "fashion-mnist", "three-conv", (0, 6), 6_000, (0.002,), 12),
)
CELLS = {cell.name: cell for cell in _CELLS}


@dataclass(frozen=True)
class Federation:
    """One honest federation.

    Attributes:
        cell: its cell's name.
        split: ``dev`` or ``test``.
        name: its folder below the cell's.
        partition: ``iid``, ``dirichlet-0.5``, ``dirichlet-0.1`` or ``k-label-2``.
        optimizer: the clients'.
        start: the name of its central pre-training; federations of one name share it.
        rounds: number of rounds.
        attacked: whether backdoored models branch off.
    """

    cell: str
    split: str
    name: str
    partition: str
    optimizer: str
    start: str
    rounds: int
    attacked: bool = False

    @property
    def key(self) -> str:
        """Unique among all federations, and its folder below the zoo's."""
        return f"{self.cell}/{self.name}"

    @property
    def small(self) -> bool:
        """Whether it is one of the many cheap ones."""
        return "small" in self.name


DRAWN = {"dev": "dev", "test": "test3"}
"""A split's name in names and seeds: the test is drawn anew whenever the detector changes after it was judged."""


def trunks(cell: str, split: str) -> list[Federation]:
    """The federations of a cell from which everything else branches off."""

    def made(number: int, partition: str, optimizer: str, attacked: bool, start: int) -> Federation:
        begun = f"start-{DRAWN[split]}-{start}"
        rounds = CELLS[cell].rounds
        return Federation(
            cell, split, f"{DRAWN[split]}-{number}", partition, optimizer, begun, rounds, attacked
        )

    shared = not CELLS[cell].grey  # pre-training takes minutes
    uneven = "dirichlet-0.1" if cell == "mnist-groupnorm" or not CELLS[cell].grey else "k-label-2"
    if CELLS[cell].classes:
        return [made(1, "iid", "adam", False, 1)]
    if split == "dev":
        partition = "iid" if cell == "gtsrb-vgg" else "dirichlet-0.5"
        first = made(1, partition, "sgd" if cell == "cifar-resnet18" else "adam", True, 1)
        return [first, made(2, "k-label-2", "adam", False, 2)] if uneven == "k-label-2" else [first]
    second = made(2, "dirichlet-0.5", "adam" if cell == "cifar-vit" else "sgd", True, 1 if shared else 2)
    third = made(3, uneven, "adam", False, 1 if shared else 3)
    return [made(1, "iid", "adam", True, 1), second, *([] if cell == "cifar-vit" else [third])]


SMALL_CELLS = ("mnist-convnet", "fashion-three-conv")
SMALL_FEDERATIONS = 20
_PARTITIONS = ("iid", "dirichlet-0.5", "dirichlet-0.1", "k-label-2")


def small_federations(cell: str, split: str) -> list[Federation]:
    """Cheap honest federations, each with a start and a partition of its own."""
    return [
        Federation(
            cell,
            split,
            f"{DRAWN[split]}-small-{number}",
            _PARTITIONS[number % 4],
            ("adam", "sgd")[number // 4 % 2],
            f"start-{DRAWN[split]}-small-{number}",
            12,
        )
        for number in range(SMALL_FEDERATIONS)
    ]


def seed_of(*names: object) -> int:
    """A seed for a name."""
    return crc32("/".join(map(str, names)).encode())


def settings(federation: Federation, runs: Path) -> SimulationConfig:
    """The simulation of an honest federation, from its pre-trained start."""
    kind, _, number = federation.partition.partition("-0.")
    data = DataConfig(
        source=CELLS[federation.cell].source,
        partition="k-label" if kind == "k-label-2" else kind,
        labels_per_client=2,
        alpha=float(f"0.{number}") if number else 0.5,
    )
    adam, small = federation.optimizer == "adam", federation.small
    return SimulationConfig(
        seed=seed_of(federation.key),
        data=data,
        model=ModelConfig(
            architecture=CELLS[federation.cell].network,
            start=str(runs / federation.cell / f"{federation.start}.safetensors"),
        ),
        training=LocalTraining(
            epochs=1,
            batch_size=32,
            optimizer="adam" if adam else "sgd",
            lr=0.0003 if adam else 0.005,
            images_per_epoch=200 if small else 300,
        ),
        federation=FederationConfig(
            clients=10 if small else 20, clients_per_round=4 if small else 6, rounds=federation.rounds
        ),
        aggregation={"kind": "fedavg" if kind == "iid" else "uniform"},
    )
