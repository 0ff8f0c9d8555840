from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import planted
from fedmend.detection import Case, ClassInversion, Tabor, TaborWeights, measured
from fedmend.detection.lone_suspect import LoneSuspect
from fedmend.errors import ConfigError
from fedmend.seeds import generator
from fedmend.triggers import Patch

BRIEF = ClassInversion(rounds=2, batches=1, batch_size=8)


def first_white(images: Tensor) -> Tensor:
    """Class 1 where the first pixel is white, else class 0 if the last is, and else class 2."""
    first, last = images[:, 0, 0, 0], images[:, 0, -1, -1]
    return torch.stack([last, 2 * first, torch.full_like(first, 0.3)], 1)


def test_the_metric_by_hand() -> None:
    images = torch.zeros(3, 1, 2, 2)
    images[0, 0, -1, -1] = 1  # of class 0; the others are of class 2, and one is said to be of class 1
    suspect = LoneSuspect(first_white, images, torch.tensor([0, 2, 1]), 3, 1000)
    mask = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    metric = Tabor(sparsity=2.0, roughness=0.5).quality(suspect, Patch(mask, mask.clone()), 1)
    # A quarter is marked, with two differences in four pairs of neighbours. On the two images that are not of class 1
    # the trigger works, both keep their class without the first pixel, and the first pixel alone is class 1.
    assert float(metric) == pytest.approx(2 * 0.25 + 0.5 * 1 - 3)
    black = Patch(mask, torch.zeros(1, 2, 2))
    assert float(Tabor().quality(suspect, black, 1)) == pytest.approx(0.25 + 1 - 1)
    # Of a pixel that is replaced in part, 0.6 * 0.4 is left of the stamp, which makes the second image class 1.
    assert float(Tabor().quality(suspect, Patch(0.6 * mask, mask), 1)) == pytest.approx(0.25 + 1 - 2.5)


def test_each_regulariser_has_a_say(world: planted.World) -> None:
    case = Case(world.backdoored, images=world.images[:12], labels=world.labels[:12])
    off = {"blocking": 0.0, "overlaying": 0.0}
    values = []
    for weights in (off, off | {"mask_size": 5.0}, off | {"blocking": 99.0}, off | {"overlaying": 99.0}):
        finding = Tabor(search=BRIEF, weights=TaborWeights(**weights), sparsity=1e3)(case, generator(0))
        values.append([measured(finding, f"class_{number}").value for number in range(4)])  # type: ignore[union-attr]
    assert all(other != values[0] for other in values[1:])


@pytest.mark.parametrize(
    ("name", "wrong"), [("sparsity", -1.0), ("limit", 0.0), ("memory", 0), ("weights", 3)]
)
def test_settings_out_of_range_are_refused(name: str, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        Tabor(**{name: wrong})
