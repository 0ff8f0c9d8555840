"""Semantic backdoors: images of one class with a rare feature of their own, such as red cars."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fedmend.attacks.natural_images import NaturalImages, opened, with_channels
from fedmend.checked_settings import Count, Natural, PositiveFraction, settings
from fedmend.errors import ConfigError
from fedmend.pixels import to_float

Feature = Literal["bright", "dark", "red", "green", "blue"]


@settings
class Semantic(NaturalImages):
    """Unmodified images of a class, those with most of a feature, that the model shall take for the goal's class.

    Bagdasaryan et al., "How To Backdoor Federated Learning" (2020), section 4.1: cars that are green, have racing
    stripes, or stand before a striped wall. Deviations: the feature is measured in pixels, since the data sets have no
    such labels; and honest clients keep those of their images with their true labels, where the paper gives them none.

    Attributes:
        image_shape: (C, H, W).
        source: the federation's own data, as for ``[data] source``.
        source_class: whose images.
        feature: mean brightness, its opposite, or how much a colour exceeds the other two in the mean.
        fraction: of the class's images, in (0, 1], that count as having the feature.

    Raises:
        ConfigError: the source has no image of the class, or is grey and the feature a colour. DataError: there is no
            such source.
    """

    image_shape: tuple[Count, Count, Count]
    source: str
    source_class: Natural
    feature: Feature = "red"
    fraction: PositiveFraction = 0.05

    def pool(self, split: str) -> Tensor:
        """See :class:`~fedmend.attacks.natural_images.NaturalImages`."""
        images = opened(self.source, split, self.image_shape)
        places = (images.labels == self.source_class).nonzero().flatten()
        if not len(places):
            raise ConfigError(
                f"{self.source} has no {split} image of class {self.source_class}; choose another"
            )
        found = with_channels(images.subset(places).images, self.image_shape[0])
        count = max(1, round(self.fraction * len(found)))
        return found[scores(found, self.feature).topk(count).indices]


def scores(images: Tensor, feature: Feature) -> Tensor:
    """How much each image, uint8 (N, C, H, W), has of a feature: (N,).

    Raises:
        ConfigError: the images are grey and the feature is a colour.
    """
    means = to_float(images).mean((2, 3))
    if feature in ("bright", "dark"):
        return means.mean(1) if feature == "bright" else -means.mean(1)
    if images.shape[1] != 3:
        raise ConfigError(f"{feature} needs coloured images; got grey ones, which can be bright or dark")
    place = ("red", "green", "blue").index(feature)
    others = torch.tensor([each for each in range(3) if each != place])
    return means[:, place] - means[:, others].max(1).values
