"""Labelled images from a folder with one sub-folder a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedmend.data.arrays import image_set_from
from fedmend.data.decoding import decode, reading
from fedmend.data.image_set import ImageSet
from fedmend.errors import DataError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def read_folder(folder: Path, split: str) -> ImageSet:
    """Read a folder of class folders; the classes are their names in sorted order, images go by file name.

    If the folder's sub-folders hold folders themselves, they are taken for splits, and the one called
    ``split`` is read. Hidden entries and files other than png, jpg, jpeg, bmp and webp are passed over.
    A class folder without images stays a class.

    Raises:
        DataError: no such folder, split or image, a damaged image, or images of different sizes.
    """
    with reading(str(folder), "expected a folder that can be read, with one sub-folder a class"):
        splits = [entry.name for entry in _folders(folder) if _folders(entry)]
        if splits and split not in splits:
            raise DataError(
                f"{folder} has no split {split!r}; it has {', '.join(splits)}; choose one of those"
            )
        if splits:
            folder = folder / split
        classes = _folders(folder)
        files = [(label, path) for label, entry in enumerate(classes) for path in _images(entry)]
        if not files:
            raise DataError(
                f"no images found in {folder}; expected one sub-folder a class with png, jpg, jpeg, bmp or "
                "webp files"
            )
        images = decode((str(path), path) for _, path in files)
        labels = np.array([label for label, _ in files], dtype=np.int64)
        return image_set_from(images, labels, tuple(entry.name for entry in classes), str(folder))


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.suffix.lower() in _SUFFIXES and not entry.name.startswith(".") and entry.is_file()
    )
