"""Finds labelled images by name: the shipped sample, well-known datasets, the hub, and a user's own files."""

from __future__ import annotations

import difflib
import importlib.resources
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedmend.data.array_files import open_npz
from fedmend.data.class_names import checked_classes
from fedmend.data.failures import as_data_error
from fedmend.data.image_set import ImageSet
from fedmend.data.lazy_images import LazyImages, Size, Wanted
from fedmend.data.limits import check_is_file
from fedmend.errors import DataError

SAMPLE = "fashion-mnist-sample"

_HUB_IDS = {
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "gtsrb": "tanganke/gtsrb",
}
_HUB_SIZES = {"gtsrb": (32, 32)}  # its signs have many sizes
_SPLITS = ("train", "test")
_LONGEST_SIDE = 8192
_KINDS = (
    f"{SAMPLE}, {', '.join(_HUB_IDS)}, a hub id such as owner/name, a .parquet or .npz file, or a folder "
    "with one sub-folder per class"
)


def open_images(
    source: str | Path,
    split: str = "test",
    *,
    resize: Size | None = None,
    classes: Sequence[str] | None = None,
) -> LazyImages:
    """Open labelled images: labels are read at once, images are decoded on request.

    All have 8 bits per channel, and 1 (grey) or 3 (RGB) channels. ``source`` is one of:

    - ``fashion-mnist-sample``: 12,000 training and 2,000 test images that are part of this package.
    - ``mnist``, ``fashion-mnist``, ``cifar10`` or ``gtsrb``, with hyphens or underscores, in any case: if the
      environment variable FEDMEND_DATA is set, the file ``<FEDMEND_DATA>/<name>/<split>.parquet``, otherwise the
      dataset on the Hugging Face hub. The hub's GTSRB is scaled to 32x32.
    - ``owner/name``, if there is no such path: that dataset on the hub; needs ``pip install 'fedmend[hub]'``.
    - a ``.parquet`` file: a column of encoded images and one of labels, integers or texts, as ``datasets`` writes them.
    - a ``.npz`` file: arrays ``images``, ``labels`` and optionally ``class_names`` (see
      :func:`fedmend.data.array_files.open_npz`).
    - a folder with one sub-folder per class, optionally inside one folder per split (see
      :func:`fedmend.data.folders.open_folder`).

    PNG, JPEG, BMP and WebP images are decoded as :func:`fedmend.data.decoding.decode` says. Integer labels count from
    0, or from 1 as :func:`fedmend.data.class_names.numbered` says. Without ``classes``, the classes of folders and
    texts are in the order of their names, 2 before 10 if all are numbers.

    A known name takes precedence over a path: for your own folder, write ``./mnist`` or pass a ``Path``.

    Args:
        source: the name, file or folder.
        split: ``train`` or ``test``, or another split of a hub dataset or a folder; ignored for a file.
        resize: (H, W) in pixels to which every image is scaled, bilinear with antialiasing; None keeps the sizes, which
            must then be the same.
        classes: the names of all of the model's classes in its order, as the source calls them; see
            :func:`read_class_names`. A source that has labels without names gets these.

    Raises:
        DataError: nothing is there, or the data is damaged, unpacks to too much or doesn't fit.
    """
    if not isinstance(source, str | Path) or not isinstance(split, str):
        raise DataError(
            f"a data source must be text or a path, and a split text; got {type(source).__name__} and "
            f"{type(split).__name__}; expected {_KINDS}"
        )
    wanted = _wanted(resize, classes)
    if isinstance(source, str):
        name = source.lower().replace("_", "-")
        if not name.strip():
            raise DataError(_nothing_there(source))
        if name == SAMPLE:
            return _open_sample(split, wanted)
        if name in _HUB_IDS:
            return _open_known(name, split, wanted)
    with as_data_error(repr(str(source)), f"expected {_KINDS}"):
        path = Path(source).expanduser()
        if path.is_dir():
            return _open_folder(path, split, wanted)
        if path.exists():
            return _open_file(path, wanted)
    if isinstance(source, str) and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source) and not _names_a_file(path):
        return _open_hub(source, split, wanted)
    raise DataError(_nothing_there(source))


def load_images(
    source: str | Path,
    split: str = "test",
    *,
    resize: Size | None = None,
    classes: Sequence[str] | None = None,
) -> ImageSet:
    """Load all images of a source, decoded; see :func:`open_images`, which decodes only some.

    Raises:
        DataError: nothing is there, the data is damaged or doesn't fit, or the images differ in size.
    """
    return open_images(source, split, resize=resize, classes=classes).load()


def _wanted(resize: Size | None, classes: Sequence[str] | None) -> Wanted:
    if resize is not None:
        sides = tuple(resize) if isinstance(resize, Sequence) else (resize,)
        if len(sides) != 2 or not all(type(side) is int and 1 <= side <= _LONGEST_SIDE for side in sides):
            raise DataError(
                f"resize must be (H, W), each from 1 to {_LONGEST_SIDE} pixels; got {resize!r:.80}"
            )
    return Wanted(resize, None if classes is None else checked_classes(classes, "classes"))


def _open_sample(split: str, wanted: Wanted) -> LazyImages:
    _check_split(split, SAMPLE)
    resource = importlib.resources.files("fedmend.data") / "sample" / f"{split}.npz"
    with as_data_error(f"{SAMPLE} ({split})", "the installation is damaged; install fedmend again"):
        return open_npz(lambda: resource.open("rb"), SAMPLE, wanted)


def _open_parquet(path: Path, wanted: Wanted) -> LazyImages:
    from fedmend.data.tables import open_parquet  # here, since only this source needs pyarrow

    return open_parquet(path, wanted)


def _open_hub(dataset_id: str, split: str, wanted: Wanted) -> LazyImages:
    from fedmend.data.hub import open_hub  # likewise

    return open_hub(dataset_id, split, wanted)


def _open_folder(folder: Path, split: str, wanted: Wanted) -> LazyImages:
    from fedmend.data.folders import open_folder  # likewise, and no Pillow

    return open_folder(folder, split, wanted)


def _open_known(name: str, split: str, wanted: Wanted) -> LazyImages:
    _check_split(split, name)
    root = os.environ.get("FEDMEND_DATA")
    if not root:
        return _open_hub(_HUB_IDS[name], split, replace(wanted, size=wanted.size or _HUB_SIZES.get(name)))
    with as_data_error(f"{name} in FEDMEND_DATA", "set FEDMEND_DATA to a folder of datasets"):
        folders = [Path(root).expanduser() / spelling for spelling in (name, name.replace("-", "_"))]
        for folder in folders:
            if (folder / f"{split}.parquet").exists():
                return _open_parquet(folder / f"{split}.parquet", wanted)
    raise DataError(
        f"FEDMEND_DATA is set but there is no {folders[-1] / f'{split}.parquet'}; put the file there, or "
        "unset FEDMEND_DATA to load from the Hugging Face hub"
    )


def _open_file(path: Path, wanted: Wanted) -> LazyImages:
    check_is_file(path)
    if path.suffix.lower() == ".parquet":
        return _open_parquet(path, wanted)
    if path.suffix.lower() == ".npz":
        return open_npz(lambda: path.open("rb"), str(path), wanted)
    raise DataError(f"{path} is not a file of images that fedmend can read; expected {_KINDS}")


def _check_split(split: str, name: str) -> None:
    if split not in _SPLITS:
        raise DataError(f"{name} has no split {split!r}; choose train or test")


def _names_a_file(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".npz")


def _nothing_there(source: str | Path) -> str:
    spelled = str(source).lower().replace("_", "-")
    near = difflib.get_close_matches(spelled, [SAMPLE, *_HUB_IDS], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"no images at {str(source)!r}: no such name, file or folder; {hint}expected {_KINDS}"
