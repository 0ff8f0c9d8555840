"""A rectangle of one colour or of a chequerboard (BadNets: Gu et al. 2019)."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Discriminator, Tag

from fedmend.checked_settings import Count, Flag, Fraction, Natural, settings
from fedmend.errors import ConfigError
from fedmend.triggers.drawing import Drawing
from fedmend.triggers.patch import Patch


def _kind_of_color(value: Any) -> str:
    return "rgb" if isinstance(value, list | tuple) else "grey"


Color = Annotated[
    Annotated[Fraction, Tag("grey")] | Annotated[tuple[Fraction, Fraction, Fraction], Tag("rgb")],
    Discriminator(_kind_of_color),
]


@settings
class Box(Drawing):
    """A rectangle.

    Attributes:
        image_shape: (C, H, W).
        height, width: of the rectangle, in pixels.
        top, left: position of its upper left corner.
        color: a grey value in [0, 1], or three values for red, green and blue.
        chequered: every other pixel is black, as on a chequerboard that starts with ``color``.

    Raises:
        ConfigError: a setting is out of range, the rectangle doesn't fit the image, or an RGB colour is given for
            images that don't have three channels.
    """

    image_shape: tuple[Count, Count, Count]
    height: Count = 3
    width: Count = 3
    top: Natural = 2
    left: Natural = 2
    color: Color = 1.0
    chequered: Flag = False

    def __post_init__(self) -> None:
        channels, height, width = self.image_shape
        if self.top + self.height > height or self.left + self.width > width:
            raise ConfigError(
                f"a box of {self.height}x{self.width} pixels at top={self.top}, left={self.left} needs images of at "
                f"least {self.top + self.height}x{self.left + self.width} pixels; got {height}x{width}"
            )
        if isinstance(self.color, tuple) and channels != 3:
            raise ConfigError(
                f"an RGB color needs images of 3 channels; these have {channels}: give one grey value"
            )

    def draw(self) -> Patch:
        """The rectangle as a patch."""
        channels, height, width = self.image_shape
        mask = torch.zeros(1, height, width)
        rows, columns = slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)
        mask[0, rows, columns] = 1
        color = self.color if isinstance(self.color, tuple) else (self.color,) * channels
        pattern = mask * torch.tensor(color).view(channels, 1, 1)
        if self.chequered:
            odd = (torch.arange(self.height)[:, None] + torch.arange(self.width)) % 2 == 1
            pattern[:, rows, columns] = pattern[:, rows, columns].masked_fill(odd, 0)
        return Patch(mask, pattern)
