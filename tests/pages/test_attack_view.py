from __future__ import annotations

from typing import Any

import pytest
import torch

from fedmend.pages.attack_view import attack_views

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
