from __future__ import annotations

from typing import Any

import pytest
import torch

from fedmend.detection import Target
from fedmend.pages.attack_view import attack_views
from fedmend.triggers import Patch

NAMES = ("cat", "dog", "owl")


@pytest.mark.parametrize(
    ("goal", "told"),
    [
        ({"kind": "all-to-one", "target": 1}, "all-to-one: all other classes → dog"),
        ({"kind": "one-to-one", "source": 2, "target": 7}, "one-to-one: owl → class 7"),
        ({"kind": "several", "pairs": [[0, 1], [1, 2]]}, "several: cat → dog, dog → owl"),
        ({"kind": "all-to-all", "num_classes": 3, "shift": 1}, "all-to-all: num_classes 3, shift 1"),
        ({"kind": "my.goals:odd"}, "my.goals:odd"),
        ({"kind": "several", "pairs": 5}, "several: pairs 5"),
        ({}, "–"),
    ],
)
def test_goals_in_class_names(made: Any, goal: dict[str, Any], told: str) -> None:
    assert attack_views([made.attack(goal=goal)], NAMES)[0].goal == told


def test_planted_triggers_stand_beside_the_recovered_one(made: Any, shown: Any) -> None:
    page = shown(made.everything())
    assert page.text.count("Planted by the attacker") == 1
    assert page.html.index("Planted by") < page.html.index("Examples")
    assert "Unknown to the defender: only a simulation knows it." in page.text
    without = shown(made.everything(scan=made.scan_of(made.finding("clean", targets=()))))
    assert without.text.count("Planted by the attacker") == 1
    assert without.html.index("Planted by") > without.html.index('id="attack"')


def test_a_trigger_of_another_kind_is_shown_by_its_example(made: Any, shown: Any) -> None:
    image = torch.zeros(1, 28, 28)
    attack = made.attack(trigger={"kind": "sinusoid", "frequency": 6}, patch=None, example=(image, image))
    page = shown(attacks=(attack, made.attack(patch=None)))
    assert "Attack 1 Trigger sinusoid: frequency 6" in page.text
    assert "Attack 2 Trigger patch" in page.text
    assert len(page.all("img")) == 2
    assert "this whole section" in page.text


def test_a_planted_patch_is_compared_with_the_recovered_one_nearest_to_it(made: Any, shown: Any) -> None:
    def patch(*pixels: int) -> Patch:
        mask = torch.zeros(1, 28, 28)
        mask[0, 0, list(pixels)] = 1
        return Patch(mask, mask)

    near, far = Target(1, 1.0, trigger=patch(0, 1, 2)), Target(1, 1.0, trigger=patch(9))
    found = made.finding("backdoored", targets=(far, near))
    attack = made.attack(patch=patch(0, 1, 3))
    assert attack_views([attack], NAMES, [found])[0].overlap == 0.5
    assert attack_views([attack], NAMES)[0].overlap is None
    assert attack_views([made.attack(patch=None)], NAMES, [found])[0].overlap is None
    page = shown(scan=made.scan_of(found), attacks=(attack,))
    assert "IoU with the recovered trigger 0.50" in page.text
