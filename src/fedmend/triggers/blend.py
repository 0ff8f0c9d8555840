"""A faint pattern over the whole image (Chen et al. 2017, "Targeted Backdoor Attacks", the blended injection)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fedmend.checked_settings import Count, Natural, PositiveFraction, settings
from fedmend.errors import ConfigError, DataError
from fedmend.seeds import generator
from fedmend.triggers.base import require_float, require_shape


@dataclass(frozen=True, eq=False)
class Blend:
    """A pattern blended into images: ``x' = (1 - a) * x + a * pattern`` (Chen et al., 3.2).

    Attributes:
        pattern: float (C, H, W) in [0, 1].
        opacity: the paper's blend ratio ``a``, in (0, 1].

    Raises:
        DataError: the pattern has another shape or range. ConfigError: the opacity is out of range.
    """

    pattern: Tensor
    opacity: float

    def __post_init__(self) -> None:
        pattern = self.pattern
        if pattern.ndim != 3 or not pattern.is_floating_point():
            raise DataError(
                f"a blend needs a float pattern (C, H, W); got {pattern.dtype} {tuple(pattern.shape)}"
            )
        if not bool(((pattern >= 0) & (pattern <= 1)).all()):
            raise DataError("a blend's pattern must be in [0, 1] without NaN")
        if not 0 < self.opacity <= 1:
            raise ConfigError(f"opacity must be above 0 and at most 1; got {self.opacity}")

    def apply(self, images: Tensor) -> Tensor:
        """See :class:`Trigger`.

        Raises:
            DataError: the images have another shape than the pattern, or aren't floats.
        """
        require_shape(images, tuple(self.pattern.shape))
        require_float(images)
        pattern = self.pattern.to(images.device)
        return ((1 - self.opacity) * images + self.opacity * pattern).to(images.dtype)


@settings
class NoiseBlend:
    """A blend with uniform noise, the same for every image (Chen et al., Fig. 3: the random pattern).

    Attributes:
        image_shape: (C, H, W).
        opacity: the blend ratio, in (0, 1].
        seed: of the noise.
    """

    image_shape: tuple[Count, Count, Count]
    opacity: PositiveFraction = 0.2
    seed: Natural = 0

    @cached_property
    def blend(self) -> Blend:
        """The drawn noise with its opacity."""
        return Blend(torch.rand(self.image_shape, generator=generator(self.seed, "blend")), self.opacity)

    def apply(self, images: Tensor) -> Tensor:
        """See :class:`Blend`."""
        return self.blend.apply(images)
