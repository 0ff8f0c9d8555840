"""One to nine white pixels (federated-pruning paper, 5.4, Fig. 1)."""

from __future__ import annotations

from typing import Literal

import torch

from fedmend.checked_settings import Count, Natural, settings
from fedmend.errors import ConfigError
from fedmend.triggers.drawing import Drawing
from fedmend.triggers.patch import Patch

PixelPattern = Literal["1px", "3px", "5px", "7px", "9px"]

_CELLS: dict[PixelPattern, str] = {
    "1px": "... .#. ...",
    "3px": "#.. .#. ..#",
    "5px": "#.# .#. #.#",
    "7px": "#.# ### #.#",
    "9px": "### ### ###",
}


@settings
class Pixels(Drawing):
    """White pixels in a cell of 3x3, by default near the upper left corner, where images are mostly dark.

    The paper shows its patterns only in a figure and doesn't specify their position; pixels and position are ours.
    Each pattern contains the smaller ones.

    Attributes:
        pattern: "1px", "3px", "5px", "7px" or "9px".
        image_shape: (C, H, W).
        top, left: position of the cell.

    Raises:
        ConfigError: a setting is out of range, or the cell doesn't fit the image.
    """

    pattern: PixelPattern
    image_shape: tuple[Count, Count, Count]
    top: Natural = 2
    left: Natural = 2

    def __post_init__(self) -> None:
        _, height, width = self.image_shape
        if self.top + 3 > height or self.left + 3 > width:
            raise ConfigError(
                f"pixels at top={self.top}, left={self.left} need images of at least "
                f"{self.top + 3}x{self.left + 3} pixels; got {height}x{width}"
            )

    def draw(self) -> Patch:
        """The white pixels as a patch."""
        channels, height, width = self.image_shape
        mask = torch.zeros(1, height, width)
        for row, line in enumerate(_CELLS[self.pattern].split()):
            for column, cell in enumerate(line):
                mask[0, self.top + row, self.left + column] = float(cell == "#")
        return Patch(mask, mask.expand(channels, height, width).clone())
