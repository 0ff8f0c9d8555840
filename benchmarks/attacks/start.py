"""The images and the pre-trained model that all cells start from."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from benchmarks.attacks.setting import ARCHITECTURE

from fedmend.checkpoints import save_state
from fedmend.data import ImageSet, open_images
from fedmend.local_training import LocalTraining
from fedmend.models import build_model
from fedmend.seeds import generator

SOURCE = "fashion-mnist"
PRE_TRAINING, CLIENTS, MEASURED = 10_000, 8_000, 1_000
RUNS = Path(__file__).parents[1] / "runs" / "attacks"


@cache
def images() -> tuple[ImageSet, ImageSet, ImageSet]:
    """The server's training images, the clients', and the test images that accuracy and ASR are measured on."""
    train, test = (open_images(SOURCE, split) for split in ("train", "test"))
    drawn = torch.randperm(len(train), generator=generator(0, "attacks", "train"))[: PRE_TRAINING + CLIENTS]
    measured = torch.randperm(len(test), generator=generator(0, "attacks", "test"))[:MEASURED]
    return (
        train.subset(drawn[:PRE_TRAINING]),
        train.subset(drawn[PRE_TRAINING:]),
        test.subset(measured),
    )


def pre_trained(seed: int) -> Path:
    """The server's model after pre-training; trained if it isn't there."""
    path = RUNS / f"start-{seed}.safetensors"
    if not path.exists():
        model = build_model(ARCHITECTURE, num_classes=10, in_channels=1, image_size=(28, 28), seed=seed)
        own = images()[0]
        for epochs, lr in ((6, 0.001), (2, 0.0002)):
            LocalTraining(epochs=epochs, batch_size=64, lr=lr)(model, own.images, own.labels, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_state(model.state_dict(), path)
    return path
