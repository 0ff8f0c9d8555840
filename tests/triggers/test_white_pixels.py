from itertools import pairwise

import pytest
import torch

from fedmend.errors import ConfigError
from fedmend.triggers import PixelPattern, Pixels

CELLS = {
    "1px": ["...", ".#.", "..."],
    "3px": ["#..", ".#.", "..#"],
    "5px": ["#.#", ".#.", "#.#"],
    "7px": ["#.#", "###", "#.#"],
    "9px": ["###", "###", "###"],
}


@pytest.mark.parametrize("pattern", CELLS)
def test_a_pattern_has_as_many_white_pixels_as_its_name_says(pattern: PixelPattern) -> None:
    for channels in (1, 3):
        trigger = Pixels(pattern, (channels, 12, 20), top=5, left=16).patch
        cell = trigger.mask[0, 5:8, 16:19]
        assert ["".join(".#"[int(value)] for value in row) for row in cell] == CELLS[pattern]
        assert trigger.size == float(cell.sum()) == int(pattern[0])
        assert torch.equal(trigger.pattern, trigger.mask.expand(channels, 12, 20))


def test_each_pattern_holds_the_smaller_ones() -> None:
    masks = [Pixels(pattern, (1, 28, 28)).patch.mask for pattern in CELLS]  # type: ignore[arg-type]
    for smaller, larger in pairwise(masks):
        assert bool((smaller <= larger).all())


def test_by_default_the_cell_is_two_pixels_from_the_upper_left_corner() -> None:
    full = Pixels("9px", (1, 28, 28)).patch.mask[0]
    assert bool(full[2:5, 2:5].all())
    assert float(full.sum()) == 9
    assert Pixels("1px", (1, 28, 28)).patch.mask[0].nonzero().tolist() == [[3, 3]]


def test_a_pattern_touches_the_border_but_never_crosses_it() -> None:
    assert Pixels("9px", (1, 3, 3), top=0, left=0).patch.size == 9
    assert Pixels("9px", (1, 5, 5)).patch.mask[0, 2:, 2:].all()
    for height, width in ((2, 3), (3, 2)):
        with pytest.raises(ConfigError, match="at least 3x3"):
            Pixels("9px", (1, height, width), top=0, left=0)
    for height, width in ((4, 28), (28, 4)):
        with pytest.raises(ConfigError, match=f"at least 5x5 pixels; got {height}x{width}"):
            Pixels("1px", (1, height, width))


@pytest.mark.parametrize("place", ["top", "left"])
def test_negative_places_are_refused(place: str) -> None:
    with pytest.raises(ConfigError, match=f"Pixels: {place}: .* greater than or equal to 0; got -1"):
        Pixels("1px", (1, 28, 28), **{place: -1})


def test_an_unknown_pattern_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"pattern: input should be '1px'.*; got '2px'"):
        Pixels(pattern="2px", image_shape=(1, 28, 28))  # type: ignore[arg-type]
