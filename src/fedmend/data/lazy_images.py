"""Labelled images with labels in memory and pixels decoded on request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedmend.data.failures import as_data_error
from fedmend.data.image_set import ImageSet, check_labels, checked_indices
from fedmend.errors import DataError

Decode = Callable[[list[int]], Tensor]
"""Decodes the images at the given indices, ascending and distinct, to uint8 (M, C, H, W)."""

_MOST_CLASSES = 100_000


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


def opened_images(
    labels: np.ndarray[Any, Any], class_names: tuple[str, ...] | None, decode: Decode, where: str
) -> LazyImages:
    """Make LazyImages from an array of labels, (N,); without names the classes are "0", "1", ...

    Args:
        labels: integers in [0, 100,000).
        class_names: one name per class, or None.
        decode: see :data:`Decode`.
        where: the source's name in errors.

    Raises:
        DataError: the labels aren't integers, are out of range, or have no name.
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"labels of {where} must be integers of shape (N,); got {labels.dtype} {labels.shape}"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < _MOST_CLASSES:
        raise DataError(
            f"labels of {where} must be in [0, {_MOST_CLASSES}); got labels from {labels.min()} to "
            f"{labels.max()}; drop unlabelled images (-1) and count classes from 0"
        )
    if class_names is None:
        class_names = tuple(str(label) for label in range(int(labels.max(initial=0)) + 1))
    with as_data_error(where, "correct the file"):
        return LazyImages(torch.from_numpy(labels.astype(np.int64)), class_names, decode)
