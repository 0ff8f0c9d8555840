"""Finding labelled images by name: the shipped sample, well-known datasets, the hub, and a user's own files."""

from __future__ import annotations

import difflib
import importlib.resources
import os
import re
from pathlib import Path

from fedmend.data.array_files import open_npz
from fedmend.data.failures import as_data_error
from fedmend.data.image_set import ImageSet
from fedmend.data.lazy_images import LazyImages
from fedmend.errors import DataError

SAMPLE = "fashion-mnist-sample"

_HUB_IDS = {
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "gtsrb": "tanganke/gtsrb",
}
_HUB_SIZES = {"gtsrb": (32, 32)}  # its signs are of many sizes
_SPLITS = ("train", "test")
_KINDS = (
    f"{SAMPLE}, {', '.join(_HUB_IDS)}, a hub id such as owner/name, a .parquet or .npz file, or a folder "
    "with one sub-folder a class"
)


def open_images(source: str | Path, split: str = "test") -> LazyImages:
    """Open labelled images: all labels are read, and images are decoded when they are asked for.

    All have 8 bits a channel, and 1 (grey) or 3 (RGB) channels. ``source`` is one of:

    - ``fashion-mnist-sample``: 12,000 training and 2,000 test images that are part of this package.
    - ``mnist``, ``fashion-mnist``, ``cifar10`` or ``gtsrb``, with hyphens or underscores, in any case: if the
      environment variable FEDMEND_DATA is set, the file ``<FEDMEND_DATA>/<name>/<split>.parquet``, else the
      dataset on the Hugging Face hub. The hub's GTSRB is scaled to 32x32.
    - ``owner/name``, where there is no such path: that dataset on the hub, by ``pip install 'fedmend[hub]'``.
    - a ``.parquet`` file: a column of encoded images and one of integer labels, as ``datasets`` writes them.
    - a ``.npz`` file: arrays ``images``, ``labels`` and perhaps ``class_names`` (see
      :func:`fedmend.data.array_files.open_npz`).
    - a folder with one sub-folder a class, perhaps inside one folder a split.

    A name comes before a file of that name: write ``./mnist`` for a folder of yours, or give a ``Path``.

    Args:
        source: where the images are.
        split: ``train`` or ``test``; other names where a hub dataset or a folder has them. A file has none,
            and ``split`` is ignored.

    Raises:
        DataError: nothing is there, or what is there is damaged or doesn't fit.
    """
    if not isinstance(source, str | Path) or not isinstance(split, str):
        raise DataError(
            f"a data source and a split are given as text or a path; got {type(source).__name__} and "
            f"{type(split).__name__}; expected {_KINDS}"
        )
    if isinstance(source, str):
        name = source.lower().replace("_", "-")
        if not name.strip():
            raise DataError(_nothing_there(source))
        if name == SAMPLE:
            return _open_sample(split)
        if name in _HUB_IDS:
            return _open_known(name, split)
    with as_data_error(repr(str(source)), f"expected {_KINDS}"):
        path = Path(source).expanduser()
        if path.is_dir():
            return _open_folder(path, split)
        if path.exists():
            return _open_file(path)
    if isinstance(source, str) and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source) and not _names_a_file(path):
        return _open_hub(source, split)
    raise DataError(_nothing_there(source))


def load_images(source: str | Path, split: str = "test") -> ImageSet:
    """Load all images of a source, decoded; see :func:`open_images`, which decodes only some.

    Raises:
        DataError: nothing is there, what is there is damaged or doesn't fit, or the images differ in size.
    """
    return open_images(source, split).load()


def _open_sample(split: str) -> LazyImages:
    _check_split(split, SAMPLE)
    resource = importlib.resources.files("fedmend.data") / "sample" / f"{split}.npz"
    with as_data_error(f"{SAMPLE} ({split})", "the installation is damaged; install fedmend again"):
        return open_npz(lambda: resource.open("rb"), SAMPLE)


def _open_parquet(path: Path) -> LazyImages:
    from fedmend.data.tables import open_parquet  # here, since a scan of another source needs no pyarrow

    return open_parquet(path)


def _open_hub(dataset_id: str, split: str, size: tuple[int, int] | None = None) -> LazyImages:
    from fedmend.data.hub import open_hub  # likewise

    return open_hub(dataset_id, split, size)


def _open_folder(folder: Path, split: str) -> LazyImages:
    from fedmend.data.folders import open_folder  # likewise, and no Pillow

    return open_folder(folder, split)


def _open_known(name: str, split: str) -> LazyImages:
    _check_split(split, name)
    root = os.environ.get("FEDMEND_DATA")
    if not root:
        return _open_hub(_HUB_IDS[name], split, _HUB_SIZES.get(name))
    with as_data_error(f"{name} in FEDMEND_DATA", "set FEDMEND_DATA to a folder of datasets"):
        folders = [Path(root).expanduser() / spelling for spelling in (name, name.replace("-", "_"))]
        for folder in folders:
            if (folder / f"{split}.parquet").exists():
                return _open_parquet(folder / f"{split}.parquet")
    raise DataError(
        f"FEDMEND_DATA is set but there is no {folders[-1] / f'{split}.parquet'}; put the file there, or "
        "unset FEDMEND_DATA to load from the Hugging Face hub"
    )


def _open_file(path: Path) -> LazyImages:
    if path.suffix.lower() == ".parquet":
        return _open_parquet(path)
    if path.suffix.lower() == ".npz":
        return open_npz(lambda: path.open("rb"), str(path))
    raise DataError(f"{path} is a file of a kind that can't be read as images; expected {_KINDS}")


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
