from itertools import pairwise
from typing import get_args

import pytest
import torch

from fedmend.attacks import Shape, atoms, pixels
from fedmend.errors import ConfigError
from fedmend.triggers import union

PICTURES = {
    "1": [".#.", ".#.", ".#."],
    "+": [".#.", "###", ".#."],
    "H": ["#.#", "###", "#.#"],
}


@pytest.mark.parametrize(("shape", "pixels"), [("1", 3), ("+", 5), ("H", 7)])
def test_atoms_have_the_papers_numbers_of_pixels(shape: Shape, pixels: int) -> None:
    pieces = atoms(shape, (1, 28, 28))
    assert [int((piece.mask == 1).sum()) for piece in pieces] == [pixels] * 3
    assert [piece.size for piece in pieces] == [pixels] * 3
    full = union(pieces)
    assert int((full.mask == 1).sum()) == 3 * pixels
    assert int((full.mask > 0).sum()) == 3 * pixels


@pytest.mark.parametrize("shape", ["1", "+", "H"])
def test_atoms_look_like_their_names(shape: Shape) -> None:
    for index, piece in enumerate(atoms(shape, (1, 12, 20), top=4, left=1, gap=3)):
        cell = piece.mask[0, 4:7, 1 + 6 * index : 4 + 6 * index]
        assert ["".join(".#"[int(value)] for value in row) for row in cell] == PICTURES[shape]
        assert float(piece.mask.sum()) == float(cell.sum())


def test_grey_atoms_are_white() -> None:
    for channels in (1, 3):
        for piece in atoms("+", (channels, 28, 28)):
            assert torch.equal(piece.pattern, piece.mask.expand(channels, -1, -1))


def test_coloured_atoms_are_red_green_and_blue() -> None:
    for index, piece in enumerate(atoms("H", (3, 28, 28), color=True)):
        expected = torch.zeros(3, 28, 28)
        expected[index] = piece.mask[0]
        assert torch.equal(piece.pattern, expected)


def test_colour_on_grey_images_stays_white() -> None:
    for piece in atoms("1", (1, 28, 28), color=True):
        assert torch.equal(piece.pattern, piece.mask)


def test_atoms_touch_the_border_but_never_cross_it() -> None:
    assert union(atoms("H", (1, 3, 9), top=0, left=0, gap=0)).size == 21
    for height, width in ((2, 9), (3, 8)):
        with pytest.raises(ConfigError, match="at least 3x9"):
            atoms("H", (1, height, width), top=0, left=0, gap=0)
    with pytest.raises(ConfigError, match="at least 5x15"):
        atoms("1", (1, 28, 14))


@pytest.mark.parametrize("place", [{"top": -1}, {"left": -1}, {"gap": -1}])
def test_negative_places_are_refused(place: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="three atoms at"):
        atoms("1", (1, 28, 28), **place)


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match='"1", "\\+", "H"'):
        atoms("h", (1, 28, 28))  # type: ignore[arg-type]


# A few pixels

CELLS = {
    "1px": ["...", ".#.", "..."],
    "3px": ["#..", ".#.", "..#"],
    "5px": ["#.#", ".#.", "#.#"],
    "7px": ["#.#", "###", "#.#"],
    "9px": ["###", "###", "###"],
}


@pytest.mark.parametrize("pattern", CELLS)
def test_a_pattern_has_as_many_white_pixels_as_its_name_says(pattern: Shape) -> None:
    for channels in (1, 3):
        trigger = pixels(pattern, (channels, 12, 20), top=5, left=16)
        cell = trigger.mask[0, 5:8, 16:19]
        assert ["".join(".#"[int(value)] for value in row) for row in cell] == CELLS[pattern]
        assert trigger.size == float(cell.sum()) == int(pattern[0])
        assert torch.equal(trigger.pattern, trigger.mask.expand(channels, 12, 20))


def test_each_pattern_holds_the_smaller_ones() -> None:
    masks = [pixels(pattern, (1, 28, 28)).mask for pattern in CELLS]  # type: ignore[arg-type]
    for smaller, larger in pairwise(masks):
        assert bool((smaller <= larger).all())


def test_by_default_the_cell_is_two_pixels_from_the_upper_left_corner() -> None:
    full = pixels("9px", (1, 28, 28)).mask[0]
    assert bool(full[2:5, 2:5].all())
    assert float(full.sum()) == 9
    assert pixels("1px", (1, 28, 28)).mask[0].nonzero().tolist() == [[3, 3]]


def test_a_pattern_touches_the_border_but_never_crosses_it() -> None:
    assert pixels("9px", (1, 3, 3), top=0, left=0).size == 9
    assert pixels("9px", (1, 5, 5)).mask[0, 2:, 2:].all()
    for height, width in ((2, 3), (3, 2)):
        with pytest.raises(ConfigError, match="at least 3x3"):
            pixels("9px", (1, height, width), top=0, left=0)
    for height, width in ((4, 28), (28, 4)):
        with pytest.raises(ConfigError, match=f"at least 5x5 pixels; got {height}x{width}"):
            pixels("1px", (1, height, width))
    for place in ({"top": -1}, {"left": -1}):
        with pytest.raises(ConfigError, match="pixels at"):
            pixels("1px", (1, 28, 28), **place)


def test_each_shape_is_an_atom_or_a_pattern_and_never_both() -> None:
    names = [name for kind in get_args(Shape) for name in get_args(kind) or (kind,)]
    assert sorted(names) == sorted([*PICTURES, *CELLS])
    for name in PICTURES:
        with pytest.raises(ConfigError, match="one of 1px, 3px, 5px, 7px, 9px; got"):
            pixels(name, (1, 28, 28))  # type: ignore[arg-type]
    for name in CELLS:
        with pytest.raises(ConfigError, match="an atom's shape"):
            atoms(name, (1, 28, 28))  # type: ignore[arg-type]
