"""The zoo's models that no federation trains: the pre-trained starts, and distilled models."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import pairs
import torch
from cells import CELLS, Cell, Federation, seed_of
from load import RUNS, attack_images, model, training_images
from torch import Tensor, nn

from fedmend.checkpoints import save_state
from fedmend.evaluation import accuracy
from fedmend.federation import RunFolder
from fedmend.local_training import LocalTraining
from fedmend.models import build_model
from fedmend.seeds import generator

MEASURED = 1500
"""Images that accuracy and ASR are measured on."""


@cache
def measured_accuracy(cell: Cell, checkpoint: str) -> float:
    """A checkpoint's accuracy on images that the server doesn't hold."""
    images = attack_images(cell)
    return round(accuracy(model(cell, checkpoint), images.images[:MEASURED], images.labels[:MEASURED]), 4)


def start(federation: Federation) -> None:
    """A federation's central pre-training, if it isn't there."""
    cell = CELLS[federation.cell]
    file = RUNS / cell.name / f"{federation.start}.safetensors"
    if file.exists():
        return
    images, count = training_images(cell), cell.start_images
    rates: tuple[float, ...] = cell.start_lrs
    if federation.small:
        count, rates = (8_000, (0.002,)) if cell.name == "mnist-convnet" else (16_000, (0.002,))
    net, began = fresh(cell, seed_of(cell.name, federation.start)), time.perf_counter()
    for epoch, rate in enumerate(rates):
        training = LocalTraining(epochs=1, lr=rate, images_per_epoch=count)
        training(net, images.images, images.labels, seed_of(cell.name, federation.start, epoch))
    file.parent.mkdir(parents=True, exist_ok=True)
    save_state(net.state_dict(), file)
    if not federation.small:
        seconds = time.perf_counter() - began
        print(
            f"{file.stem} {cell.name}: {measured_accuracy(cell, str(file)):.3f}, {seconds:.0f} s", flush=True
        )


def distil(trunk: Federation, pair: pairs.Pair) -> None:
    """A model trained on the reference's predictions: new weights on grey images, else the trunk's first round."""
    cell, teacher = CELLS[trunk.cell], model(CELLS[trunk.cell], pair.reference)
    seed = seed_of(pair.cell, pair.name)
    student = fresh(cell, seed)
    if not cell.grey:
        student = model(cell, RunFolder(Path(trunk.key)).checkpoint(1))
    images = training_images(cell).images
    chosen = images[
        torch.randperm(len(images), generator=generator(seed, "distil"))[: 20_000 if cell.grey else 4_000]
    ]
    for rate in (0.002, 0.0005) if cell.grey else (0.001,):
        training = LocalTraining(epochs=1, lr=rate)
        training(student, chosen, predictions(teacher, chosen), seed)
    save_state(student.state_dict(), RUNS / pair.suspect)


def predictions(net: nn.Module, images: Tensor) -> Tensor:
    """Soft labels, (N, classes)."""
    with torch.no_grad():
        return torch.cat([net(batch.float() / 255).softmax(1) for batch in images.split(256)])


def fresh(cell: Cell, seed: int) -> nn.Module:
    """A cell's network with new weights."""
    channels, height, width = cell.image_shape
    return build_model(
        cell.network,
        num_classes=cell.num_classes,
        in_channels=channels,
        image_size=(height, width),
        seed=seed,
    ).to(memory_format=torch.channels_last)
