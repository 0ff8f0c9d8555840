"""Train the models on which scans are timed, and choose the images; what is there already is kept.

    python benchmarks/speed/train.py            # about an hour on one core
    python benchmarks/detection/train.py mnist  # MNIST's models are the detection benchmark's

The reference is trained on clean images, by a learning rate that falls to a thirtieth, for a model still at a high rate
swings from epoch to epoch and is no match for its successors. The clean successor has one more epoch of the same at the
lowest rate; the backdoored one has one with stamped copies of a tenth of the images. All in one place, without a
federation: the time of a scan doesn't depend on how its model came about.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from safetensors.torch import save_file
from torch import nn
from worlds import DEVELOPMENT, WORLDS, Backdoor, World

from fedmend import accuracy, attack_success_rate, build_model, load_checkpoint, load_images
from fedmend.attacks import Poisoning
from fedmend.checkpoints import save_state
from fedmend.data import ImageSet, stratified
from fedmend.goals import AllToOne
from fedmend.local_training import LocalTraining
from fedmend.seeds import generator
from fedmend.triggers import Atoms

POISONED_SHARE = 0.1
BATCH_SIZE, FIRST_LR, LAST_LR = 64, 0.003, 0.0001


def fresh(world: World, images: ImageSet) -> nn.Module:
    _, channels, height, width = images.images.shape
    return build_model(
        world.architecture,
        num_classes=images.num_classes,
        in_channels=channels,
        image_size=(height, width),
        seed=world.seed,
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def train_all(world: World) -> None:
    """The reference and its successors, with their accuracy and ASR on 2,000 test images."""
    images, test = load_images(world.source, "train"), load_images(world.source, "test")
    own = images.subset(stratified(images, world.train_images, generator(world.seed, "train")))
    probe = test.subset(stratified(test, 2000, generator(world.seed, "probe")))
    falling = [
        FIRST_LR * (LAST_LR / FIRST_LR) ** (epoch / (world.epochs - 1)) for epoch in range(world.epochs)
    ]
    for name, backdoor in {"reference": None, **world.successors}.items():
        pictures, labels, rates, asr = own.images, own.labels, falling, ""
        model = fresh(world, images)
        if backdoor is not None:
            trigger = planted(backdoor, images)
            poisoning = Poisoning(trigger, AllToOne(backdoor.target_class), POISONED_SHARE)
            pictures, labels = poisoning(pictures, labels, generator(world.seed, "poison"))
        if not world.checkpoint(name).exists():
            if name != "reference":
                load_checkpoint(world.checkpoint("reference"), model)
                rates = [LAST_LR]
            for epoch, lr in enumerate(rates):
                training = LocalTraining(epochs=1, batch_size=BATCH_SIZE, optimizer="adam", lr=lr)
                training(model, pictures, labels, seed=epoch)
            world.checkpoint(name).parent.mkdir(parents=True, exist_ok=True)
            save_state(model.state_dict(), world.checkpoint(name))
        load_checkpoint(world.checkpoint(name), model)
        model.eval()
        right = accuracy(model, probe.images, probe.labels)
        if backdoor is not None:
            goal = AllToOne(backdoor.target_class)
            rate = attack_success_rate(model, trigger, goal, probe.images, probe.labels)
            asr = f", ASR {rate:.1%}"
        print(f"{world.name}, {name}: accuracy {right:.1%}{asr}", flush=True)


def planted(backdoor: Backdoor, images: ImageSet) -> Atoms:
    """The whole trigger, for images of this size."""
    _, channels, height, width = images.images.shape
    shape = (channels, height, width)
    return Atoms(backdoor.shape, shape, color=True, top=backdoor.top, left=backdoor.left)


def choose(world: World) -> None:
    """The images of the scan, as many of each class as can be."""
    if world.images.exists():
        return
    test = load_images(world.source, "test")
    chosen = test.subset(stratified(test, world.scan_images, generator(world.seed, "scan")))
    world.images.parent.mkdir(parents=True, exist_ok=True)
    save_file({"images": chosen.images.contiguous(), "labels": chosen.labels}, world.images)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "worlds",
        nargs="*",
        metavar="world",
        help=f"of {', '.join(WORLDS)}, or {DEVELOPMENT.name}; the former by default",
    )
    options = parser.parse_args(arguments)
    for name in options.worlds or WORLDS:
        world = DEVELOPMENT if name == DEVELOPMENT.name else WORLDS[name]
        choose(world)
        if world.train_images:
            train_all(world)


if __name__ == "__main__":
    main()
