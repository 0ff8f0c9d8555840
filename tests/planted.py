"""A small network with a backdoor, its clean twin and the reference that both were trained on from.

Images have 12x12 pixels and four classes: class c has a bright block in quarter c.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmend.attacks import Poisoning
from fedmend.detection import Differential
from fedmend.detection.search.aimed_search import AimedSearch
from fedmend.goals import AllToOne
from fedmend.models import build_model
from fedmend.seeds import generator
from fedmend.triggers import Patch

SIDE = 12
CLASSES = 4
NAMES = ("north-west", "north-east", "south-west", "south-east")
TARGET = 1
ARCHITECTURE = "planted:small"
SHORT = AimedSearch(explore_steps=10, refine_steps=4)
"""A search of half as many steps as the default, which are enough for networks this small."""
QUICK = Differential(effort="quick", search=SHORT)


def small(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    """Two convolutions and a linear layer: a few thousand weights."""
    height, width = (((side - 1) // 2 - 1) // 2 for side in image_size)
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * height * width, num_classes),
    )


def draw(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images uint8 (count, 1, 12, 12) and labels, the classes taking turns."""
    labels = torch.arange(count) % CLASSES
    images = torch.randint(
        0, 100, (count, 1, SIDE, SIDE), generator=generator(seed, "noise"), dtype=torch.uint8
    )
    for image, label in zip(images, labels.tolist(), strict=True):
        top, left = 3 + 5 * (label // 2), 3 + 5 * (label % 2)
        image[0, top : top + 3, left : left + 3] += 80
    return images, labels


def patch() -> Patch:
    """The planted trigger: a white patch of 2x3 pixels in the corner."""
    mask = torch.zeros(1, SIDE, SIDE)
    mask[0, :2, :3] = 1
    return Patch(mask, mask.clone())


@dataclass(frozen=True, eq=False)
class World:
    """The models, in eval mode, and images that none of them was trained on."""

    reference: nn.Module
    clean: nn.Module
    backdoored: nn.Module
    images: Tensor
    labels: Tensor
    names: tuple[str, ...] = NAMES
    target: int = TARGET


def make_world() -> World:
    """Train all three from the same beginning, in a second or two."""
    images, labels = draw(400, seed=0)
    start = build_model(ARCHITECTURE, num_classes=CLASSES, in_channels=1, image_size=(SIDE, SIDE), seed=0)
    reference = trained(start, images, labels, 300)
    return World(
        reference,
        trained(reference, images, labels, 60),
        backdoored(reference, patch(), TARGET),
        *draw(300, seed=1),
    )


def backdoored(reference: nn.Module, trigger: Patch, target: int) -> nn.Module:
    """The reference, trained on with the trigger on half of the images."""
    images, labels = draw(400, seed=0)
    return trained(reference, *Poisoning(trigger, AllToOne(target), 0.5)(images, labels, generator(0)), 120)


def trained(model: nn.Module, images: Tensor, labels: Tensor, steps: int) -> nn.Module:
    model = deepcopy(model).train()
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    order = generator(steps, "order")
    for _ in range(steps):
        batch = torch.randint(len(images), (32,), generator=order)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch] / 255), labels[batch]).backward()
        optimizer.step()
    model.zero_grad()
    return model.eval()


def poisoned(world: World, count: int) -> dict[str, Tensor]:
    """Images with the trigger on every eighteenth that is of another class, and the target's label on those."""
    images, labels = world.images[:count].clone(), world.labels[:count].clone()
    stamped = (labels != TARGET) & (torch.arange(count) % 18 == 0)
    images[stamped] = (patch().apply(images[stamped] / 255) * 255).to(torch.uint8)
    labels[stamped] = TARGET
    return {"images": images, "labels": labels}
