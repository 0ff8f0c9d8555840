"""Labelled images from a folder with one sub-folder per class."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from fedmend.data.decoding import decode
from fedmend.data.failures import as_data_error
from fedmend.data.lazy_images import LazyImages, opened_images
from fedmend.errors import DataError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_ADVICE = "expected a readable folder with one sub-folder per class"


def open_folder(folder: Path, split: str) -> LazyImages:
    """List a folder of class folders; classes are sorted by name, images by file name.

    If the sub-folders hold folders themselves, they are splits, and ``split`` is listed. Hidden entries and files
    other than png, jpg, jpeg, bmp and webp are skipped. A class folder without images remains a class.

    Raises:
        DataError: there is no such folder, split or image.
    """
    with as_data_error(str(folder), _ADVICE):
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
                f"no images found in {folder}; expected one sub-folder per class with png, jpg, jpeg, bmp or "
                "webp files"
            )
        labels = np.array([label for label, _ in files], dtype=np.int64)
        names = tuple(entry.name for entry in classes)
        return opened_images(labels, names, partial(_decode, [path for _, path in files]), str(folder))


def _decode(files: list[Path], rows: list[int]) -> Tensor:
    return decode((str(files[row]), files[row]) for row in rows)


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.suffix.lower() in _SUFFIXES and not entry.name.startswith(".") and entry.is_file()
    )
