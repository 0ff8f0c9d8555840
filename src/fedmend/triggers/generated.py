"""A pattern of its own for each image, made by a generator (Nguyen and Tran 2020; Li et al. 2021)."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from fedmend.checked_settings import Count, Natural, PositiveFraction, settings
from fedmend.seeds import generator
from fedmend.triggers.base import require_float, require_shape

_WIDTH = 8


@settings
class Generated:
    """Add a pattern that a small convolutional network draws from the image itself: ``x' = x + strength * g(x)``.

    Nguyen and Tran, "Input-Aware Dynamic Backdoor Attack" (2020), and Li et al., "Invisible Backdoor Attack with
    Sample-Specific Triggers"
    (2021): one image's pattern isn't another's, so no common patch can be inverted. Deviation: the generator has random
        weights drawn from a seed, where the papers train it for diverse or hidden patterns; patterns differ because
        images do. Its values
    are in (-1, 1), with mean 0 over an image.

    Attributes:
        image_shape: (C, H, W).
        strength: the largest change of a pixel, in (0, 1].
        seed: of the generator's weights.
    """

    image_shape: tuple[Count, Count, Count]
    strength: PositiveFraction = 0.1
    seed: Natural = 0

    @cached_property
    def weights(self) -> tuple[Tensor, Tensor]:
        """The two convolutions: (8, C, 3, 3) and (C, 8, 3, 3)."""
        random, channels = generator(self.seed, "generated"), self.image_shape[0]
        return (
            torch.randn(_WIDTH, channels, 3, 3, generator=random),
            torch.randn(channels, _WIDTH, 3, 3, generator=random),
        )

    def pattern(self, images: Tensor) -> Tensor:
        """Each image's pattern, in (-1, 1), of the same shape."""
        first, second = (each.to(images) for each in self.weights)
        hidden = conv2d(images - 0.5, first, padding=1).sin()
        drawn = conv2d(hidden, second, padding=1)
        return (drawn - drawn.mean((2, 3), keepdim=True)).tanh()

    def apply(self, images: Tensor) -> Tensor:
        """See :class:`Trigger`.

        Raises:
            DataError: the images have another shape, or aren't floats.
        """
        require_shape(images, self.image_shape)
        require_float(images)
        wide = images if images.dtype == torch.float64 else images.float()
        return (wide + self.strength * self.pattern(wide)).clamp(0, 1).to(images.dtype)
