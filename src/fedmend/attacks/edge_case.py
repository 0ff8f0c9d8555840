"""Edge cases: real images that hardly any client has, from the tail of what the model may meet."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.attacks.natural_images import NaturalImages, opened, with_channels
from fedmend.checked_settings import Count, Natural, settings
from fedmend.errors import ConfigError
from fedmend.seeds import generator


@settings
class EdgeCase(NaturalImages):
    """Images of another data set, such as handwritten digits among clothes, that the model shall take for the goal's
    class.

    Wang et al., "Attack of the Tails: Yes, You Really Can Backdoor Federated Learning" (2020), section 3.1: samples of
    low probability under the clients' data. Attackers train on the source's training images; success is measured on its
    test images. Where the paper gives honest clients some edge cases with true labels, here they have none.

    Attributes:
        image_shape: (C, H, W).
        source: as for ``[data] source``; images are scaled to the shape, and made grey or coloured like it.
        classes: of the source; None: all.
        most: images at most; drawn from ``seed``.
        seed: of the draw.

    Raises:
        ConfigError: the source has no image of these classes. DataError: there is no such source.
    """

    image_shape: tuple[Count, Count, Count]
    source: str
    classes: tuple[Natural, ...] | None = None
    most: Count = 500
    seed: Natural = 0

    def pool(self, split: str) -> Tensor:
        """See :class:`~fedmend.attacks.natural_images.NaturalImages`."""
        images = opened(self.source, split, self.image_shape)
        places = torch.arange(len(images))
        if self.classes is not None:
            places = places[torch.isin(images.labels, torch.tensor(self.classes))]
        if not len(places):
            raise ConfigError(
                f"{self.source} has no {split} image of the classes {self.classes}; choose others"
            )
        drawn = torch.randperm(len(places), generator=generator(self.seed, "edge case", split))[: self.most]
        return with_channels(images.subset(places[drawn]).images, self.image_shape[0])
