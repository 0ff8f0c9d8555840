"""The papers' triggers: atoms shaped "1", "+" or "H" (contrastive paper, 3.3, Fig. 2), or a few pixels."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from fedmend.errors import ConfigError
from fedmend.triggers import Patch

Atom = Literal["1", "+", "H"]
Pixels = Literal["1px", "3px", "5px", "7px", "9px"]
Shape = Literal[Atom, Pixels]

_CELLS: dict[str, tuple[tuple[int, int], ...]] = {
    "1": ((0, 1), (1, 1), (2, 1)),
    "+": ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1)),
    "H": ((0, 0), (1, 0), (2, 0), (1, 1), (0, 2), (1, 2), (2, 2)),
}
_PIXELS: dict[str, str] = {
    "1px": "... .#. ...",
    "3px": "#.. .#. ..#",
    "5px": "#.# .#. #.#",
    "7px": "#.# ### #.#",
    "9px": "### ### ###",
}
_COLORS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_WHITE = (1.0, 1.0, 1.0)


def atoms(
    shape: Shape,
    image_shape: tuple[int, int, int],
    *,
    color: bool = False,
    top: int = 2,
    left: int = 2,
    gap: int = 2,
) -> tuple[Patch, Patch, Patch]:
    """Three atoms in a row, each a trigger of its own; ``triggers.union(atoms)`` is the full trigger.

    An atom is drawn in a cell of 3x3 pixels. A full trigger has 9, 15 or 21 pixels ("1", "+", "H"). The paper
    doesn't say where its atoms stand; the place is ours.

    Args:
        shape: "1" (3 pixels an atom), "+" (5) or "H" (7).
        image_shape: (C, H, W).
        color: red, green and blue atoms instead of white ones; on grey images they stay white, as on the
            paper's MNIST.
        top, left, gap: place of the first cell and the pixels between two cells.

    Raises:
        ConfigError: the shape is unknown or the atoms don't fit the image.
    """
    if shape not in get_args(Atom):
        raise ConfigError(f'an atom\'s shape is one of "1", "+", "H"; got {shape!r}')
    channels, height, width = image_shape
    if top < 0 or left < 0 or gap < 0 or top + 3 > height or left + 9 + 2 * gap > width:
        raise ConfigError(
            f"three atoms at top={top}, left={left}, gap={gap} need images of at least {top + 3}x{left + 9 + 2 * gap} "
            f"pixels; got {height}x{width}"
        )
    colors = _COLORS if color and channels == 3 else (_WHITE,) * 3
    made = []
    for index, rgb in enumerate(colors):
        mask = torch.zeros(1, height, width)
        for row, column in _CELLS[shape]:
            mask[0, top + row, left + index * (3 + gap) + column] = 1
        pattern = mask * torch.tensor(rgb[:channels]).view(channels, 1, 1)
        made.append(Patch(mask, pattern))
    first, second, third = made
    return first, second, third


def pixels(pattern: Shape, image_shape: tuple[int, int, int], *, top: int = 2, left: int = 2) -> Patch:
    """White pixels in a cell of 3x3 near the upper left corner, where images are mostly dark (pruning paper, 5.4).

    The paper shows its patterns in Fig. 1 only and doesn't say where they stand; pixels and place are ours. Each
    pattern holds the smaller ones.

    Args:
        pattern: "1px", "3px", "5px", "7px" or "9px".
        image_shape: (C, H, W).
        top, left: place of the cell.

    Raises:
        ConfigError: the pattern is unknown or doesn't fit the image.
    """
    if pattern not in get_args(Pixels):
        raise ConfigError(f"a pattern of pixels is one of {', '.join(get_args(Pixels))}; got {pattern!r}")
    channels, height, width = image_shape
    if top < 0 or left < 0 or top + 3 > height or left + 3 > width:
        raise ConfigError(
            f"pixels at top={top}, left={left} need images of at least {top + 3}x{left + 3} pixels; "
            f"got {height}x{width}"
        )
    mask = torch.zeros(1, height, width)
    for row, line in enumerate(_PIXELS[pattern].split()):
        for column, cell in enumerate(line):
            mask[0, top + row, left + column] = float(cell == "#")
    return Patch(mask, mask.expand(channels, height, width).clone())
