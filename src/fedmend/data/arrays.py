"""Labelled images from array files (.npz), which may be damaged or hostile."""

from __future__ import annotations

from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from fedmend.data.decoding import reading
from fedmend.data.image_set import ImageSet
from fedmend.errors import DataError

_MOST_CLASSES = 100_000


def read_npz(file: IO[bytes], where: str) -> ImageSet:
    """Read an .npz file of arrays ``images``, ``labels`` and, if there, ``class_names``; pickles are refused.

    ``images`` is (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3 (channels first where both could be),
    uint8 or floats in [0, 1], which are rounded to 8 bits. ``labels`` is (N,), integers from 0;
    ``class_names`` is (K,), strings.

    Args:
        file: a binary stream that can seek; it stays open.
        where: what to call it in errors.

    Raises:
        DataError: the file is damaged, or an array doesn't fit.
    """
    with reading(where, "expected an .npz file of arrays images and labels, as numpy.savez writes it"):
        with np.load(file, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise DataError(
                    f"{where} holds a single array; expected an .npz file of arrays images and labels"
                )
            missing = [name for name in ("images", "labels") if name not in arrays.files]
            if missing:
                came = ", ".join(arrays.files) or "none"
                raise DataError(f"{where} has no array {' and no '.join(missing)}; got arrays: {came}")
            images, labels = arrays["images"], arrays["labels"]
            names = arrays["class_names"] if "class_names" in arrays.files else None
        return image_set_from(_pixels(images, where), labels, _names(names, where), where)


def image_set_from(
    images: Tensor, labels: np.ndarray[Any, Any], class_names: tuple[str, ...] | None, where: str
) -> ImageSet:
    """An ImageSet of ``images`` and an array of labels, (N,); without names the classes are "0", "1", ...

    Raises:
        DataError: the labels are no integers, are out of range, or don't fit the images.
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
    with reading(where, "correct the file"):
        return ImageSet(images, torch.from_numpy(labels.astype(np.int64)), class_names)


def _pixels(images: np.ndarray[Any, Any], where: str) -> Tensor:
    """The array as uint8 (N, C, H, W)."""
    shape = images.shape
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    elif images.ndim != 4 or shape[1] not in (1, 3):
        raise DataError(
            f"images of {where} must have shape (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3; "
            f"got {shape}"
        )
    if images.dtype.kind == "f":
        if not bool(((images >= 0) & (images <= 1)).all()):
            raise DataError(
                f"float images of {where} must be in [0, 1] without NaN; got values from {images.min()} to "
                f"{images.max()}; divide 8-bit values by 255, or store them as uint8"
            )
        images = np.rint(images.astype(np.float64) * 255).astype(np.uint8)
    if images.dtype != np.uint8:
        raise DataError(f"images of {where} must be uint8, or floats in [0, 1]; got {images.dtype}")
    return torch.from_numpy(np.ascontiguousarray(images))


def _names(names: np.ndarray[Any, Any] | None, where: str) -> tuple[str, ...] | None:
    if names is None:
        return None
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(
            f"class_names of {where} must be strings of shape (K,); got {names.dtype} {names.shape}"
        )
    return tuple(str(name) for name in names)
