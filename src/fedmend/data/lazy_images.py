"""Labelled images with labels in memory and pixels decoded on request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedmend.data.class_names import numbered
from fedmend.data.failures import as_data_error
from fedmend.data.image_set import ImageSet, check_labels, checked_indices

Decode = Callable[[list[int]], Tensor]
"""Decodes the images at the given indices, ascending and distinct, to uint8 (M, C, H, W)."""

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, eq=False)
class LazyImages:
    """Images that are decoded on request, with all their labels.

    Images decoded together must have one size. They have one channel if all are grey, otherwise three. A damaged
    image raises only when it is decoded.

    Attributes:
        labels: int64, (N,), in [0, num_classes), N >= 1.
        class_names: one name per class; a class may have no images.
        decode: decodes images; call :meth:`subset` or :meth:`load` instead.

    Raises:
        DataError: a type, a shape or a label doesn't fit.
    """

    labels: Tensor
    class_names: tuple[str, ...]
    decode: Decode = field(repr=False)

    def __post_init__(self) -> None:
        check_labels(self.labels, self.class_names)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def subset(self, indices: Tensor | Sequence[int]) -> ImageSet:
        """Decode only the images at ``indices``, in that order.

        Args:
            indices: one or more integers in [0, N), (M,).

        Raises:
            DataError: the indices can't be used, an image is damaged, or the images differ in size.
        """
        chosen = checked_indices(indices, len(self)).cpu()
        rising, places = chosen.unique(sorted=True, return_inverse=True)
        images = self.decode(rising.tolist())
        if not torch.equal(rising, chosen):
            images = images[places]
        return ImageSet(images, self.labels[chosen], self.class_names)

    def load(self) -> ImageSet:
        """Decode all images.

        Raises:
            DataError: an image is damaged, or the images differ in size.
        """
        return ImageSet(self.decode(list(range(len(self)))), self.labels, self.class_names)


@dataclass(frozen=True)
class Wanted:
    """What a caller asks of any source.

    Attributes:
        size: (H, W) in pixels to which every image is scaled; None keeps the sizes.
        classes: the names of the model's classes in its order; None for those of the source.
    """

    size: Size | None = None
    classes: tuple[str, ...] | None = None


def opened_images(
    labels: np.ndarray[Any, Any],
    names: tuple[str, ...] | None,
    decode: Decode,
    where: str,
    classes: tuple[str, ...] | None = None,
) -> LazyImages:
    """Make LazyImages from what a source says of its labels, see :func:`fedmend.data.class_names.numbered`.

    Raises:
        DataError: the labels can't be used, or don't fit the names.
    """
    numbers, class_names = numbered(labels, names, classes, where)
    with as_data_error(where, "correct the file"):
        return LazyImages(torch.from_numpy(numbers), class_names, decode)
