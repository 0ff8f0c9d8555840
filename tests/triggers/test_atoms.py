import pickle

import pytest
import torch

from fedmend.errors import ConfigError
from fedmend.triggers import Atoms, AtomShape

PICTURES = {
    "1": [".#.", ".#.", ".#."],
    "+": [".#.", "###", ".#."],
    "H": ["#.#", "###", "#.#"],
}


@pytest.mark.parametrize(("shape", "pixels"), [("1", 3), ("+", 5), ("H", 7)])
def test_atoms_have_the_papers_numbers_of_pixels(shape: AtomShape, pixels: int) -> None:
    atoms = Atoms(shape, (1, 28, 28))
    pieces = atoms.parts()
    assert [int((piece.mask == 1).sum()) for piece in pieces] == [pixels] * 3
    assert [piece.size for piece in pieces] == [pixels] * 3
    full = atoms.patch
    assert int((full.mask == 1).sum()) == 3 * pixels
    assert int((full.mask > 0).sum()) == 3 * pixels


@pytest.mark.parametrize("shape", ["1", "+", "H"])
def test_atoms_look_like_their_names(shape: AtomShape) -> None:
    for index, piece in enumerate(Atoms(shape, (1, 12, 20), top=4, left=1, gap=3).parts()):
        cell = piece.mask[0, 4:7, 1 + 6 * index : 4 + 6 * index]
        assert ["".join(".#"[int(value)] for value in row) for row in cell] == PICTURES[shape]
        assert float(piece.mask.sum()) == float(cell.sum())


def test_grey_atoms_are_white() -> None:
    for channels in (1, 3):
        for piece in Atoms("+", (channels, 28, 28)).parts():
            assert torch.equal(piece.pattern, piece.mask.expand(channels, -1, -1))


def test_coloured_atoms_are_red_green_and_blue() -> None:
    for index, piece in enumerate(Atoms("H", (3, 28, 28), color=True).parts()):
        expected = torch.zeros(3, 28, 28)
        expected[index] = piece.mask[0]
        assert torch.equal(piece.pattern, expected)


def test_colour_on_grey_images_stays_white() -> None:
    for piece in Atoms("1", (1, 28, 28), color=True).parts():
        assert torch.equal(piece.pattern, piece.mask)


def test_atoms_touch_the_border_but_never_cross_it() -> None:
    assert Atoms("H", (1, 3, 9), top=0, left=0, gap=0).patch.size == 21
    for height, width in ((2, 9), (3, 8)):
        with pytest.raises(ConfigError, match="at least 3x9"):
            Atoms("H", (1, height, width), top=0, left=0, gap=0)
    with pytest.raises(ConfigError, match="at least 5x15"):
        Atoms("1", (1, 28, 14))


@pytest.mark.parametrize("place", ["top", "left", "gap"])
def test_negative_places_are_refused(place: str) -> None:
    with pytest.raises(ConfigError, match=f"Atoms: {place}: .* greater than or equal to 0; got -1"):
        Atoms("1", (1, 28, 28), **{place: -1})  # type: ignore[arg-type]


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"shape: input should be '1', '\+' or 'H'; got 'h'"):
        Atoms(shape="h", image_shape=(1, 28, 28))  # type: ignore[arg-type]


def test_stamping_is_stamping_one_part_after_the_other() -> None:
    atoms, images = Atoms("H", (3, 9, 20), color=True), torch.rand(5, 3, 9, 20)
    expected = images
    for part in atoms.parts():
        expected = part.apply(expected)
    assert torch.equal(atoms.apply(images), expected)
    assert not torch.equal(atoms.parts()[0].apply(images), expected)


def test_workers_get_the_same_atoms() -> None:
    atoms, images = Atoms("+", (1, 9, 20)), torch.rand(2, 1, 9, 20)
    assert torch.equal(pickle.loads(pickle.dumps(atoms)).apply(images), atoms.apply(images))
