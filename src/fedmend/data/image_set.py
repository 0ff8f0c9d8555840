"""Labelled images in memory: 8-bit pixels, one class each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmend.errors import DataError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their labels.

    Attributes:
        images: uint8, (N, C, H, W) with N >= 1 and C 1 (grey) or 3 (RGB).
        labels: int64, (N,), in [0, num_classes).
        class_names: one name per class; a class may have no images.

    Raises:
        DataError: a type, a shape or a label doesn't fit.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_images(self.images)
        check_labels(self.labels, self.class_names)
        if len(self.labels) != len(self.images):
            raise DataError(
                f"every image needs one label; got {len(self.images)} images and {len(self.labels)} labels"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def subset(self, indices: Tensor | Sequence[int]) -> ImageSet:
        """Copy the images at ``indices``, in that order; the class names stay.

        Args:
            indices: one or more integers in [0, N), (M,).

        Raises:
            DataError: no index, an index out of range, or something other than integers.
        """
        chosen = checked_indices(indices, len(self)).to(self.images.device)
        return ImageSet(self.images[chosen], self.labels[chosen], self.class_names)


def check_labels(labels: object, class_names: object) -> None:
    """Check that labels are int64, (N,) with N >= 1, and each has a name.

    Raises:
        DataError: a type, a shape or a label doesn't fit.
    """
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.ndim != 1:
        raise DataError(f"labels must be an int64 tensor of shape (N,); got {_describe(labels)}")
    if len(labels) == 0:
        raise DataError("at least one image with its label is needed; got no labels")
    names = class_names
    if not isinstance(names, tuple) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"class_names must be a non-empty tuple of strings; got {type(names).__name__}")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= len(names):
        raise DataError(
            f"labels must be in [0, {len(names)}), for {len(names)} class names; got labels from "
            f"{lowest} to {highest}; drop unlabelled images (-1) and count classes from 0"
        )


def checked_indices(indices: Tensor | Sequence[int], length: int) -> Tensor:
    """Return ``indices`` as int64, (M,) with M >= 1, in [0, ``length``).

    Raises:
        DataError: no index, an index out of range, or something other than whole numbers.
    """
    try:
        chosen = torch.as_tensor(indices)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError("indices must be a sequence of whole numbers or an integer tensor (M,)") from error
    if chosen.numel() == 0:
        raise DataError("a subset needs at least one image; got no indices")
    if chosen.ndim != 1 or not _is_integer(chosen):
        raise DataError(f"indices must be whole numbers of shape (M,); got {_describe(chosen)}")
    if int(chosen.min()) < 0 or int(chosen.max()) >= length:
        raise DataError(
            f"indices must be in [0, {length}); got indices from {int(chosen.min())} to {int(chosen.max())}"
        )
    return chosen.to(torch.int64)


def _check_images(images: object) -> None:
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.ndim != 4:
        raise DataError(f"images must be a uint8 tensor of shape (N, C, H, W); got {_describe(images)}")
    if images.numel() == 0:
        raise DataError(
            f"at least one image with at least one pixel is needed; got shape {tuple(images.shape)}"
        )
    if images.shape[1] not in (1, 3):
        raise DataError(
            f"images must have 1 channel (grey) or 3 (RGB), channels first; got shape {tuple(images.shape)}; "
            "use images.permute(0, 3, 1, 2) if the channels come last"
        )


def _is_integer(values: Tensor) -> bool:
    return not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return type(value).__name__
