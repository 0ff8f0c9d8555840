"""Which of the server's images a repair learns from, and which judge it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fedmend.detection import Case
from fedmend.errors import ConfigError, DataError
from fedmend.repairs.gate import HoldOutGate
from fedmend.repairs.repair_report import RepairReport
from fedmend.seeds import generator

MIN_IMAGES = 20


def split(case: Case, fraction: float, seed: int) -> tuple[Case, tuple[Tensor, Tensor]]:
    """The case with the repair's own images, and the held-out images (N, C, H, W) with their labels, int64 (N,).

    Args:
        case: with images and labels.
        fraction: of the images that are held out.
        seed: of the choice.

    Raises:
        DataError: too few images, or no labels. ConfigError: the fraction leaves too few to repair with.
    """
    images, labels = case.images, case.labels
    if images is None or labels is None:
        raise DataError("a repair needs the server's own clean images with labels; the case has none")
    if len(images) < MIN_IMAGES or labels.shape != (len(images),):
        raise DataError(
            f"a repair needs at least {MIN_IMAGES} images with one label per image, to train on and to check with; "
            f"got {len(images)} images and {tuple(labels.shape)} labels"
        )
    order = torch.randperm(len(images), generator=generator(seed, "held out"))
    count = max(1, round(fraction * len(images)))
    if len(images) - count < MIN_IMAGES // 2:
        raise ConfigError(
            f"held_out_fraction = {fraction:g} leaves {len(images) - count} of {len(images)} images to repair with; "
            f"expected at least {MIN_IMAGES // 2}: choose a smaller fraction"
        )
    held_out, own = order.tensor_split([count])
    return replace(case, images=images[own], labels=labels[own]), (images[held_out], labels[held_out])


def images_learned_from(case: Case, gate: HoldOutGate, report: RepairReport) -> Tensor:
    """The images of a case that its repair could learn from, (N, C, H, W); the others judged it.

    Args:
        case: as it was given to :func:`fedmend.repairs.repair`.
        gate: likewise.
        report: what came of it.
    """
    own, _ = split(case, gate.held_out_fraction, report.settings["seed"])
    assert own.images is not None
    return own.images
