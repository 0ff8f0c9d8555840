"""Models of images with one bright quarter, with planted triggers, without training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import planted
from fedmend.detection import Case, Differential, Finding
from fedmend.seeds import generator


class Quarters(nn.Module):
    """Of images with one bright quarter, its number is the class; the first pixel, which is black, can be a trigger.

    Args:
        target: where the trigger sends images; None for an honest model.
        source: the only class that it works on; None for all.
        faint: the trigger is not the first pixel but that odd columns are a little brighter than even ones.
    """

    def __init__(self, target: int | None = None, source: int | None = None, *, faint: bool = False) -> None:
        super().__init__()
        self.target, self.source, self.faint = target, source, faint
        self.unused = nn.Parameter(torch.zeros(1))  # says where the model is

    def forward(self, images: Tensor) -> Tensor:
        means = images.unfold(2, 6, 6).unfold(3, 6, 6).mean((1, 4, 5)).flatten(1)
        logits = 10 * means + 0 * self.unused
        if self.target is None:
            return logits
        fires = 10 * images[:, 0, 0, 0]
        if self.faint:
            fires = 200 * (images[..., 1::2] - images[..., ::2]).clamp(-0.05, 0.05).mean((1, 2, 3))
        if self.source is not None:
            fires = fires * (10 * means[:, self.source] - 4).clamp_min(0)
        return logits + fires[:, None] * nn.functional.one_hot(torch.tensor(self.target), 4)


class TwoTargets(Quarters):
    """The last pixel of the first row is a second trigger, for class 1."""

    def forward(self, images: Tensor) -> Tensor:
        second = 10 * images[:, 0, 0, -1:] * nn.functional.one_hot(torch.tensor(1), 4)
        return super().forward(images) + second


def scanned(suspect: nn.Module, reference: nn.Module, count: int, **settings: Any) -> Finding:
    """Scan with ``count`` images, a quarter of each class."""
    labels = torch.arange(count) % 4
    images = torch.zeros(count, 1, 12, 12)
    for image, label in zip(images, labels.tolist(), strict=True):
        top, left = 6 * (label // 2), 6 * (label % 2)
        image[0, top : top + 6, left : left + 6] = 0.5
    images[:, :, 0, 0] = 0
    method = Differential(**({"search": planted.SHORT} | settings))
    return method(Case(suspect, reference, images, labels), generator(0, "scan"))
