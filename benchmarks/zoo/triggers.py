"""Square patches of any look at any place, which fedmend's own triggers don't cover."""

from __future__ import annotations

from typing import Literal

import torch

from fedmend.checked_settings import Count, Fraction, Natural, settings
from fedmend.errors import ConfigError
from fedmend.seeds import generator
from fedmend.triggers import Drawing, Patch


@settings
class Square(Drawing):
    """A square patch.

    Attributes:
        image_shape: (C, H, W).
        size: height and width in pixels.
        top, left: position of the upper left corner.
        look: one colour; a chequerboard of ``color`` and its complement; or uniform noise, drawn from ``seed``.
        color: red, green and blue in [0, 1]; grey images take the first.
        seed: of the noise.

    Raises:
        ConfigError: a setting is out of range, or the square doesn't fit the image.
    """

    image_shape: tuple[Count, Count, Count]
    size: Count
    top: Natural
    left: Natural
    look: Literal["solid", "chequered", "noise"] = "solid"
    color: tuple[Fraction, Fraction, Fraction] = (1.0, 1.0, 1.0)
    seed: Natural = 0

    def __post_init__(self) -> None:
        _, height, width = self.image_shape
        if self.top + self.size > height or self.left + self.size > width:
            raise ConfigError(
                f"a square of {self.size} pixels at top={self.top}, left={self.left} doesn't fit {height}x{width}"
            )

    def draw(self) -> Patch:
        """The square as a patch."""
        channels, height, width = self.image_shape
        shape = (channels, self.size, self.size)
        drawn = torch.tensor(self.color[:channels]).view(channels, 1, 1).expand(shape)
        if self.look == "chequered":
            odd = (torch.arange(self.size)[:, None] + torch.arange(self.size)) % 2 == 1
            drawn = torch.where(odd, 1 - drawn, drawn)
        elif self.look == "noise":
            drawn = torch.rand(shape, generator=generator(self.seed, "square"))
        mask, pattern = torch.zeros(1, height, width), torch.zeros(self.image_shape)
        rows, columns = slice(self.top, self.top + self.size), slice(self.left, self.left + self.size)
        mask[:, rows, columns], pattern[:, rows, columns] = 1, drawn
        return Patch(mask, pattern)
