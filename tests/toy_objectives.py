"""Simple objectives for the size-limited search, and what a search is shown and asked by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fedmend.detection import SizeLimitedSearch
from fedmend.detection.search.judging import Objective
from fedmend.detection.search.recovery import Recovered
from fedmend.seeds import generator

SIDE = 8
GREY = torch.full((3, 1, SIDE, SIDE), 0.5)
BLACK_AND_WHITE = torch.stack([torch.zeros(1, SIDE, SIDE), torch.ones(1, SIDE, SIDE)])
SIXTEENTH = SizeLimitedSearch(  # of 64 pixels: the largest mask is 4, a quarter 1
    restarts=3, explore=4, batch_size=2, steps=60, stride=10, max_mask_fraction=1 / 16, small=0.0, early=False
)
SMALLER = "no smaller trigger worked"
NOTHING = "no patch within 12.5% of the image worked"


class Wants:
    """Its losses fall, by 2 and by 1, as the corner's pixels turn to ``colour``; it works when 0.7 of that is done."""

    def __init__(self, colour: float = 1.0, pixels: int = 2) -> None:
        self.colour, self.pixels = colour, pixels

    def loss(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        return 2 * self.far(stamped)

    def coarse(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        return self.far(stamped)

    def success(self, stamped: Tensor, chosen: Tensor, at_least: float) -> Tensor:
        return (self.far(stamped) < 0.3).float()

    def far(self, stamped: Tensor) -> Tensor:
        corner = stamped[:, :, 0, : self.pixels, : self.pixels]
        return (corner - self.colour).abs().mean((1, 2, 3)) / 0.5


class Indifferent:
    """Nothing helps, and the first, second, ... patch judged works as ``answers`` says; it remembers what it was shown
    and asked.

    The starts' coarse losses are 0, 1, 2, ..., the others 10, 11, 12, ...
    """

    def __init__(self, answers: Callable[[int], float] = lambda patch: 0.0) -> None:
        self.answers = answers
        self.at_once: list[int] = []
        self.at_least: list[float] = []
        self.explored: list[tuple[Tensor, Tensor]] = []
        self.refined: list[tuple[Tensor, Tensor]] = []
        self.judged: list[tuple[Tensor, Tensor]] = []

    def loss(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        self.refined.append((stamped.detach(), chosen))
        return 10 + torch.arange(len(stamped)) + 0 * stamped.sum((1, 2, 3, 4))

    def coarse(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        self.explored.append((stamped.detach(), chosen))
        return torch.arange(len(stamped)) + 0 * stamped.sum((1, 2, 3, 4))

    def success(self, stamped: Tensor, chosen: Tensor, at_least: float) -> Tensor:
        self.at_once.append(len(stamped))
        self.at_least.append(at_least)
        self.judged += [(patch.detach(), chosen[None]) for patch in stamped.split(1)]
        last = len(self.judged)
        return torch.tensor([self.answers(patch + 1) for patch in range(last - len(stamped), last)])


def says(answers: dict[int, float]) -> Indifferent:
    """Of these patches, and 0 of others."""
    return Indifferent(lambda patch: answers.get(patch, 0.0))


def sizes(shown: list[tuple[Tensor, Tensor]]) -> list[list[float]]:
    """Of the masks shown on BLACK_AND_WHITE, where the white image is 1 minus the mask brighter."""
    return [
        [
            float((1 - (patch[who.argmax()] - patch[who.argmin()])).sum())
            for patch, who in zip(*each, strict=True)
        ]
        for each in shown
    ]


def about(*expected: float) -> list[Any]:
    """The sizes of masks that were shown alone."""
    return [[pytest.approx(size, rel=1e-4)] for size in expected]


def found(
    search: SizeLimitedSearch,
    objective: Objective | None = None,
    images: Tensor = GREY,
    seed: int = 0,
    **options: Any,
) -> Recovered:
    return search(objective or Indifferent(), images, generator(seed), **options)
