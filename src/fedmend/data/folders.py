"""Labelled images from a folder with one sub-folder per class."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from fedmend.data.class_names import in_order
from fedmend.data.decoding import decode
from fedmend.data.failures import as_data_error
from fedmend.data.lazy_images import LazyImages, Size, Wanted, opened_images
from fedmend.errors import DataError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_STRAY = (
    "@eadir",  # Synology
    "#recycle",
    "__macosx",
    "__pycache__",
    "$recycle.bin",
    "system volume information",
    "lost+found",
)
_SPLITS = ("train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval")
_ADVICE = "expected a readable folder with one sub-folder per class"


def open_folder(folder: Path, split: str, wanted: Wanted) -> LazyImages:
    """List a folder of class folders.

    Classes are sorted by name, as numbers if all are numbers; a class folder without images remains a class. Images
    are png, jpg, jpeg, bmp and webp files at any depth in a class folder. Hidden entries, and folders that systems
    leave behind, such as ``@eaDir`` and ``__MACOSX``, are passed over. If the sub-folders hold folders of several
    names, but no images, they are splits, and ``split`` is listed.

    Raises:
        DataError: there is no such folder, split or image.
    """
    with as_data_error(str(folder), _ADVICE):
        classes = {entry.name: entry for entry in _folders(_split_of(folder, split))}
        order = in_order(classes)
        files = [(label, path) for label, name in enumerate(order) for path in _images_below(classes[name])]
        if not files:
            raise DataError(
                f"no images found in {folder}; expected one sub-folder per class with png, jpg, jpeg, bmp or "
                "webp files"
            )
        labels = np.array([label for label, _ in files], dtype=np.int64)
        decoder = partial(_decode, [path for _, path in files], wanted.size)
        return opened_images(labels, order, decoder, str(folder), wanted.classes)


def _decode(files: list[Path], size: Size | None, rows: list[int]) -> Tensor:
    chosen = [files[row] for row in rows]
    with as_data_error("image files", "they may have been moved since they were listed"):
        stored = sum(path.stat().st_size for path in chosen)
    return decode(((str(path), path) for path in chosen), len(chosen), stored, size)


def _split_of(folder: Path, split: str) -> Path:
    """The folder that holds the class folders: ``folder`` itself, or one of its splits."""
    entries = _folders(folder)
    nested = {entry.name: {each.name for each in _folders(entry)} for entry in entries if not _images(entry)}
    nested = {name: below for name, below in nested.items() if below}
    if split in nested:
        return folder / split
    one_folder_in_each_class = len(nested) > 1 and len(set.union(*nested.values())) == 1
    splits = [name for name in nested if name.lower() in _SPLITS]
    if splits or (len(nested) == len(entries) > 0 and not one_folder_in_each_class):
        raise DataError(
            f"{folder} has no split {split!r}; it has {', '.join(sorted(nested))}; choose one of those, or, if they "
            "are classes, put the images right into them"
        )
    return folder


def _folders(folder: Path) -> list[Path]:
    return sorted(
        entry
        for entry in folder.iterdir()
        if not entry.name.startswith(".") and entry.name.lower() not in _STRAY and entry.is_dir()
    )


def _images(folder: Path) -> list[Path]:
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.suffix.lower() in _SUFFIXES and not entry.name.startswith(".") and entry.is_file()
    )


def _images_below(folder: Path) -> list[Path]:
    """The images of a folder, then those of the folders in it; links to folders aren't followed."""
    found = _images(folder)
    for entry in _folders(folder):
        if not entry.is_symlink():
            found += _images_below(entry)
    return found
