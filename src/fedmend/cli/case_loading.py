"""From the command line's names to a model, a device and images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fedmend.checkpoints import load_checkpoint
from fedmend.data import ImageSet, load_images, stratified
from fedmend.detection.decision import MIN_IMAGES
from fedmend.errors import ConfigError, DataError
from fedmend.models import build_model, probe
from fedmend.seeds import generator


def load_model(path: Path, architecture: str, images: ImageSet, device: torch.device) -> nn.Module:
    """The model in a checkpoint, for images and classes like those given, in eval mode.

    Raises:
        ModelError: the architecture can't be built. CheckpointError: the file isn't such a model.
    """
    _, channels, height, width = images.images.shape
    model = build_model(
        architecture,
        num_classes=images.num_classes,
        in_channels=channels,
        image_size=(height, width),
        seed=0,
    )
    load_checkpoint(path, model)
    probe(model, channels, (height, width))
    return model.eval().to(device)


@dataclass(frozen=True, eq=False)
class Case:
    """What a scan is asked to look at."""

    suspect: nn.Module
    reference: nn.Module | None
    images: ImageSet
    chosen: ImageSet


def load_case(
    suspect: Path,
    reference: Path | None,
    architecture: str,
    source: str,
    split: str,
    count: int | None,
    device: str,
    seed: int,
) -> Case:
    """Both models, all images, and the ``count`` of them to scan with.

    Raises:
        FedmendError: what is named can't be loaded.
    """
    images = load_images(source, split)
    chosen = choose_images(images, count, seed)
    where = choose_device(device)
    return Case(
        load_model(suspect, architecture, images, where),
        None if reference is None else load_model(reference, architecture, images, where),
        images,
        chosen,
    )


def choose_device(name: str) -> torch.device:
    """The device called ``name``: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".

    Raises:
        ConfigError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # which the meta device can't
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"there is no device {name!r} here; try cpu or auto") from error
    return device


def choose_images(images: ImageSet, count: int | None, seed: int) -> ImageSet:
    """``count`` images, as equally many a class as there are; by default the paper's three a class, or as many as
    a scan needs.

    Raises:
        DataError: there are fewer.
    """
    wanted = max(3 * images.num_classes, MIN_IMAGES) if count is None else count
    if count is not None and wanted > len(images):
        raise DataError(
            f"--images {wanted}, but the data has only {len(images)}; ask for fewer or give more data"
        )
    chosen = stratified(images, min(wanted, len(images)), generator(seed, "images"))
    return images.subset(chosen)
