"""Trains the federations, and the weak references of Figure 8, as far as they aren't there."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import torch
from benchmarks.paper_a.federations import Federation, checkpoint, trunks
from benchmarks.paper_a.scales import Scale
from torch import nn

from fedmend import accuracy, build_model, load_checkpoint, load_images
from fedmend.checkpoints import save_state
from fedmend.data import ImageSet, stratified
from fedmend.federation import simulate
from fedmend.local_training import LocalTraining
from fedmend.seeds import generator

RUNS = Path(os.environ.get("PAPER_A_RUNS", Path(__file__).parents[1] / "runs" / "paper_a")).resolve()
RECORDED = 500
"""Images on which a federation measures itself each round."""
LEVELS = (0.40, 0.50, 0.64, 0.71, 0.75, 0.80, 0.89)
"""Accuracies of weak references: the paper's (A.4) and, as its reviewers asked, lower ones."""
PIECE = 64
"""Images by which a weak reference's training goes on before it is measured again."""


def runs_of(scale: Scale) -> Path:
    """The folder of a scale's models. Both scales of a dataset may share a trunk, but each has its own copy."""
    return RUNS / scale.name


@cache
def images_of(dataset: str) -> tuple[ImageSet, ImageSet]:
    """All training and test images."""
    return load_images(dataset, "train"), load_images(dataset, "test")


def network(scale: Scale, file: Path | None = None) -> nn.Module:
    """The scale's network in eval mode, with a checkpoint's weights or new ones."""
    channels, height, width = scale.image_shape
    made = build_model(
        scale.architecture,
        num_classes=scale.num_classes,
        in_channels=channels,
        image_size=(height, width),
        seed=0,
        arguments=scale.arguments,
    )
    if file is not None:
        load_checkpoint(file, made)
    return made.eval()


def train(scale: Scale, federation: Federation) -> Path:
    """Run a federation and those that it goes on from; its last checkpoint. A killed run goes on where it was."""
    runs = runs_of(scale)
    last = checkpoint(runs, federation)
    if last.exists():
        return last
    if federation.trunk:
        train(scale, trunks(scale, runs)[federation.trunk])
    if federation.pretrained:
        _pretrain(scale, runs / "start.safetensors")
    training, test = images_of(scale.dataset)
    recorded = test.subset(stratified(test, RECORDED, generator(0, "paper_a", "recorded")))
    simulate(federation.config, runs / federation.name, resume=True, data=(training, recorded))
    return last


def _pretrain(scale: Scale, file: Path) -> None:
    """The central pre-training of a scale's trunk."""
    if file.exists():
        return
    images, net = images_of(scale.dataset)[0], network(scale)
    for epoch, rate in enumerate(scale.start_lrs):
        training = LocalTraining(epochs=1, lr=rate, images_per_epoch=scale.start_images)
        training(net, images.images, images.labels, epoch)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_state(net.state_dict(), file)


def weak_reference(scale: Scale, level: float) -> Path:
    """The first model on the way from new weights that is at least so accurate, trained on clean images centrally.

    Raises:
        ValueError: no model came so far on 40,000 images.
    """
    runs = runs_of(scale)
    wanted = runs / "weak" / f"{level:.2f}.safetensors"
    if wanted.exists():
        return wanted
    (images, test), net = images_of(scale.dataset), network(scale)
    measured = test.subset(stratified(test, RECORDED, generator(0, "paper_a", "weak")))
    wanted.parent.mkdir(parents=True, exist_ok=True)
    order = torch.randperm(len(images), generator=generator(0, "paper_a", "pieces"))
    for number, piece in enumerate(order[:40_000].split(PIECE)):
        LocalTraining(epochs=1, batch_size=32, lr=0.001)(
            net, images.images[piece], images.labels[piece], number
        )
        reached = accuracy(net, measured.images, measured.labels)
        for each in LEVELS:
            file = runs / "weak" / f"{each:.2f}.safetensors"
            if reached >= each and not file.exists():
                save_state(net.state_dict(), file)
        if wanted.exists():
            return wanted
    raise ValueError(f"no reference of {scale.name} reached an accuracy of {level:.0%}")
