"""A tiny attacker: four classes of 8x8 images, a small patch, and a network for them."""

import torch
from torch import nn

from fedmend.attacks import AttackData
from fedmend.pixels import to_float
from fedmend.triggers import Patch


def data() -> tuple[AttackData, Patch]:
    """Four classes, a bright quarter each, and copies with a small patch in the middle, sent to class 0."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat_interleave(40)
    images = torch.randint(0, 60, (160, 1, 8, 8), generator=rng, dtype=torch.uint8)
    for label in range(4):
        rows, columns = (
            slice(4 * (label // 2), 4 * (label // 2) + 3),
            slice(5 * (label % 2), 5 * (label % 2) + 3),
        )
        images[labels == label, :, rows, columns] = 200
    mask = torch.zeros(1, 8, 8)
    mask[:, 3:5, 3:5] = 1
    trigger = Patch(mask, mask.clone())
    stamped = (255 * trigger.apply(to_float(images[40:]))).to(torch.uint8)
    return AttackData(images, labels, stamped, torch.zeros(120, dtype=torch.int64), labels), trigger


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
