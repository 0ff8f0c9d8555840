from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

import planted
from fedmend.detection import Case, Finding, Need, Target, scan
from fedmend.progress import Progress
from fedmend.triggers import Addition


@dataclass(frozen=True)
class Named:
    """A detector that finds what it is told to."""

    needs: ClassVar[frozenset[Need]] = frozenset()

    targets: tuple[Target, ...]

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        return Finding("named", "clean", "Told.", 0.0, 1.0, targets=self.targets)


def test_each_target_has_examples_of_its_own_source_classes(world: planted.World) -> None:
    several = (
        Target(0, 0.1),
        Target(planted.TARGET, 1.0, trigger=planted.patch()),
        Target(3, 0.5, (2,), Addition(torch.full((1, planted.SIDE, planted.SIDE), 0.1))),
        *[Target(0, 0.5, trigger=planted.patch())] * 5,
    )
    case = Case(world.backdoored, world.reference, world.images[:12], world.labels[:12])
    shown = scan(case, Named(several)).examples
    assert [(each.number, each.target) for each in shown] == [(1, planted.TARGET), (2, 3), (3, 0), (4, 0)]
    assert shown[1].labels is not None
    assert shown[1].labels.tolist()[:4] == [2, 2, 2, 0]  # of 12 images, three are of each class
    assert len(shown[1].labels) == 8


def test_classes_take_turns_however_the_images_are_sorted(world: planted.World) -> None:
    order = world.labels[:12].argsort(stable=True)
    case = Case(world.backdoored, world.reference, world.images[order], world.labels[order])
    (shown,) = scan(case, Named((Target(planted.TARGET, 1.0, trigger=planted.patch()),))).examples
    assert shown.labels is not None
    assert shown.labels.tolist() == [0, 2, 3, 0, 2, 3, 0, 2]
