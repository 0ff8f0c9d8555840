"""Triggers from tables, as TOML files give them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fedmend.errors import ConfigError
from fedmend.triggers import TRIGGERS, Atoms, Box, Sinusoid, trigger_from_table

SHAPE = (3, 16, 24)


def test_a_table_gives_what_its_settings_say() -> None:
    atoms = trigger_from_table({"kind": "atoms", "shape": "H", "color": True, "top": 4}, SHAPE)
    assert atoms == Atoms("H", SHAPE, color=True, top=4)
    box = trigger_from_table({"kind": "box", "color": [1.0, 0.0, 0.5], "width": 5}, SHAPE)
    assert box == Box(SHAPE, width=5, color=(1.0, 0.0, 0.5))
    assert trigger_from_table({"kind": "sinusoid", "amplitude": 0.2}, SHAPE) == Sinusoid(amplitude=0.2)


def test_every_kind_can_be_made() -> None:
    needed: dict[str, dict[str, Any]] = {"atoms": {"shape": "+"}, "pixels": {"pattern": "5px"}}
    images = torch.rand(2, *SHAPE)
    for kind in TRIGGERS:
        trigger = trigger_from_table({"kind": kind, **needed.get(kind, {})}, SHAPE)
        assert trigger.apply(images).shape == images.shape


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "expected a kind"),
        ({"kind": "atom"}, "did you mean atoms?"),
        ({"kind": "atoms", "shape": "+", "colour": True}, "did you mean color?"),
        ({"kind": "sinusoid", "amplitud": 0.1}, "did you mean amplitude?"),
        ({"kind": "blend", "opacity": 2.0}, "opacity"),
        ({"kind": "pixels", "pattern": "9px", "top": 14}, "need images of at least 17x5"),
    ],
)
def test_bad_tables_are_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trigger_from_table(table, SHAPE)


OWN = """
class Own:
    def __init__(self, change):
        self.change = change
    def apply(self, images):
        return self.change(images)

def good(image_shape, strength): return Own(lambda images: images * strength)
def fails(image_shape): return Own(lambda images: images / missing)
def bright(image_shape): return Own(lambda images: images + 1)
def nan(image_shape): return Own(lambda images: images * float("nan"))
def grey(image_shape): return Own(lambda images: images.mean(1, keepdim=True))
def double(image_shape): return Own(lambda images: images.double())
def listed(image_shape): return Own(lambda images: images.tolist())
def in_place(image_shape): return Own(lambda images: images.mul_(0.5))
def random(image_shape): return Own(lambda images: images * __import__("random").random())
def nothing(image_shape): return None
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the current folder; a new one for each test, since modules are imported once."""
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_users_own_trigger_is_taken(own: str) -> None:
    trigger = trigger_from_table({"kind": f"{own}:good", "strength": 0.5}, SHAPE)
    assert torch.equal(trigger.apply(torch.ones(1, *SHAPE)), torch.full((1, *SHAPE), 0.5))


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("fails", r"the trigger Own failed at .*py:\d+: NameError"),
        ("bright", r"outside \[0, 1\]; clamp them"),
        ("nan", "apply returned NaN; look for a division by zero"),
        ("in_place", "must leave the images as they are"),
        ("random", "must stamp the same images the same way each time"),
        ("grey", r"returned torch.float32 \(2, 1, 16, 24\)"),
        ("double", "returned torch.float64"),
        ("listed", "returned a list"),
        ("nothing", r"must have a method apply\(images\); got a NoneType"),
        ("good", "strength"),
    ],
)
def test_what_is_no_trigger_is_refused(own: str, factory: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trigger_from_table({"kind": f"{own}:{factory}"}, SHAPE)
