"""The zoo's models, read from its index.

For example: ``suspect, reference = items(split="test", cell="gtsrb-vgg")[0].models()``.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedmend.checkpoints import load_checkpoint
from fedmend.data import ImageSet, load_images
from fedmend.goals import Goal, goal_from_table
from fedmend.models import build_model
from fedmend.seeds import generator
from fedmend.triggers import Trigger, trigger_from_table

# Networks and triggers are named as modules of this folder.
sys.path.insert(0, str(Path(__file__).parent))

from cells import CELLS, Cell

RUNS = Path(os.environ.get("ZOO_RUNS", Path(__file__).parents[1] / "runs" / "zoo")).resolve()
INDEX = RUNS / "index.jsonl"


@dataclass(frozen=True)
class Item:
    """A pair of models to scan.

    Attributes:
        cell, split, kind, family, name: which one; ``kind`` is ``backdoored`` or ``clean``.
        suspect, reference: paths of the checkpoints below ``RUNS``.
        federation: the id of the federation, or of the two joined by ``+``, that both come from.
        goal, trigger: tables, one per attack; empty if clean.
        asr: attack success rate of the suspect, one per attack, on attacked ones of :meth:`attack_images`.
        accuracy, reference_accuracy: on :meth:`attack_images`.
        both_previous: the attacked round before the suspect, if it is backdoored as well; else None.
        failed: whether an ASR stayed too low; such models are not used.
    """

    cell: str
    split: str
    kind: str
    family: str
    name: str
    suspect: str
    reference: str
    federation: str
    goal: tuple[dict[str, Any], ...] = ()
    trigger: tuple[dict[str, Any], ...] = ()
    asr: tuple[float, ...] = ()
    accuracy: float = 0.0
    reference_accuracy: float = 0.0
    both_previous: str | None = None
    failed: bool = False

    def models(self) -> tuple[nn.Module, nn.Module]:
        """Suspect and reference, in eval mode."""
        return model(CELLS[self.cell], self.suspect), model(CELLS[self.cell], self.reference)

    def previous(self) -> nn.Module | None:
        """The attacked round before the suspect, in eval mode; None if there is none."""
        return None if self.both_previous is None else model(CELLS[self.cell], self.both_previous)

    def images(self, per_class: int, seed: int) -> tuple[Tensor, Tensor]:
        """The server's images: ``per_class`` of each class (fewer if there are not so many), and their labels."""
        pool = server_images(CELLS[self.cell])
        random, drawn = generator(seed, "zoo", self.cell), []
        for label in range(pool.num_classes):
            members = (pool.labels == label).nonzero().flatten()
            drawn.append(members[torch.randperm(len(members), generator=random)[:per_class]])
        chosen = torch.cat(drawn)
        return pool.images[chosen], pool.labels[chosen]

    def attack_images(self) -> ImageSet:
        """The test images that :meth:`images` never draws."""
        return attack_images(CELLS[self.cell])

    def attacks(self) -> list[tuple[Trigger, Goal]]:
        """The planted attacks, to judge a defence; no defence may see them."""
        shape = CELLS[self.cell].image_shape
        return [
            (trigger_from_table(trigger, shape), goal_from_table(goal))
            for trigger, goal in zip(self.trigger, self.goal, strict=True)
        ]


def items(
    split: str | None = None, cell: str | None = None, kind: str | None = None, *, failed: bool = False
) -> list[Item]:
    """The index's items, in order; those whose attack failed only with ``failed``."""
    lines = INDEX.read_text(encoding="utf-8").splitlines() if INDEX.exists() else []
    found = [_item(json.loads(line)) for line in lines]
    return [
        item
        for item in found
        if split in (None, item.split)
        and cell in (None, item.cell)
        and kind in (None, item.kind)
        and (failed or not item.failed)
    ]


def _item(line: dict[str, Any]) -> Item:
    return Item(**{key: tuple(value) if isinstance(value, list) else value for key, value in line.items()})


def model(cell: Cell, checkpoint: str | Path) -> nn.Module:
    """A cell's network with the weights of a checkpoint below ``RUNS``, in eval mode."""
    channels, height, width = cell.image_shape
    made = build_model(
        cell.network, num_classes=cell.num_classes, in_channels=channels, image_size=(height, width), seed=0
    )
    load_checkpoint(RUNS / checkpoint, made)
    return made.eval()


@cache
def training_images(cell: Cell) -> ImageSet:
    """All training images."""
    return _of_classes(_loaded(cell.source, "train"), cell)


@cache
def server_images(cell: Cell) -> ImageSet:
    """The half of the test images that the server's are drawn from."""
    return _half(cell, 0)


@cache
def attack_images(cell: Cell) -> ImageSet:
    """The other half of the test images."""
    return _half(cell, 1)


def _half(cell: Cell, which: int) -> ImageSet:
    images = _of_classes(_loaded(cell.source, "test"), cell)
    order = torch.randperm(len(images), generator=generator(0, "zoo", "halves"))
    return images.subset(order[which::2])


@cache
def _loaded(source: str, split: str) -> ImageSet:
    return load_images(source, split)


def _of_classes(images: ImageSet, cell: Cell) -> ImageSet:
    """The images of the cell's classes, which are renumbered from 0."""
    if not cell.classes:
        return images
    chosen = torch.isin(images.labels, torch.tensor(cell.classes)).nonzero().flatten()
    labels = torch.searchsorted(torch.tensor(cell.classes), images.labels[chosen])
    names = tuple(images.class_names[label] for label in cell.classes)
    return ImageSet(images.images[chosen], labels, names)
