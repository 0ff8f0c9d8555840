"""Atoms shaped "1", "+" or "H" in a row (contrastive paper, 3.3, Fig. 2)."""

from __future__ import annotations

from typing import Literal

import torch

from fedmend.checked_settings import Count, Flag, Natural, settings
from fedmend.errors import ConfigError
from fedmend.triggers.drawing import Drawing
from fedmend.triggers.patch import Patch, union

AtomShape = Literal["1", "+", "H"]

_CELLS: dict[AtomShape, tuple[tuple[int, int], ...]] = {
    "1": ((0, 1), (1, 1), (2, 1)),
    "+": ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1)),
    "H": ((0, 0), (1, 0), (2, 0), (1, 1), (0, 2), (1, 2), (2, 2)),
}
_COLORS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_WHITE = (1.0, 1.0, 1.0)


@settings
class Atoms(Drawing):
    """Three atoms in a row: one trigger, or one part for each of three attackers.

    Each atom is drawn in a cell of 3x3 pixels; the three have 9, 15 or 21 pixels together. The paper doesn't specify
    the atoms' position; it is ours.

    Attributes:
        shape: "1" (3 pixels per atom), "+" (5) or "H" (7).
        image_shape: (C, H, W).
        color: red, green and blue atoms instead of white ones. On grey images they are white, as on the paper's MNIST.
        top, left: position of the first cell.
        gap: pixels between two cells.

    Raises:
        ConfigError: a setting is out of range, or the atoms don't fit the image.
    """

    shape: AtomShape
    image_shape: tuple[Count, Count, Count]
    color: Flag = False
    top: Natural = 2
    left: Natural = 2
    gap: Natural = 2

    def __post_init__(self) -> None:
        _, height, width = self.image_shape
        needed = self.top + 3, self.left + 9 + 2 * self.gap
        if needed[0] > height or needed[1] > width:
            raise ConfigError(
                f"three atoms at top={self.top}, left={self.left}, gap={self.gap} need images of at least "
                f"{needed[0]}x{needed[1]} pixels; got {height}x{width}"
            )

    def draw(self) -> Patch:
        """All three atoms."""
        return union(self.parts())

    def parts(self) -> tuple[Patch, Patch, Patch]:
        """The three atoms, from left to right."""
        return self._atom(0), self._atom(1), self._atom(2)

    def _atom(self, index: int) -> Patch:
        channels, height, width = self.image_shape
        rgb = _COLORS[index] if self.color and channels == 3 else _WHITE
        mask = torch.zeros(1, height, width)
        for row, column in _CELLS[self.shape]:
            mask[0, self.top + row, self.left + index * (3 + self.gap) + column] = 1
        return Patch(mask, mask * torch.tensor(rgb[:channels]).view(channels, 1, 1))
