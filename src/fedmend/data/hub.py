"""Labelled images from datasets on the Hugging Face hub, with the optional ``datasets`` library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor

from fedmend.data.class_names import in_order
from fedmend.data.decoding import decode
from fedmend.data.failures import as_data_error
from fedmend.data.lazy_images import LazyImages, Size, Wanted, opened_images
from fedmend.data.tables import encoded_images, image_and_label, label_values
from fedmend.errors import DataError

_ADVICE = (
    "check the name, the split and the network; without a network use a parquet file, or set FEDMEND_DATA to a "
    "folder of datasets"
)
_ROWS_AT_ONCE = 64
_SECONDS_TO_ANSWER = 10


def open_hub(dataset_id: str, split: str, wanted: Wanted) -> LazyImages:
    """Open a split of a dataset on the hub, which ``datasets`` downloads and caches.

    Args:
        dataset_id: such as ``ylecun/mnist``.
        split: such as ``test``.
        wanted: size and classes.

    Raises:
        DataError: the ``datasets`` library, the dataset or the split isn't available, or its columns can't be used.
    """
    what = f"split {split!r} of {dataset_id!r} from the Hugging Face hub"
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"can't read {what} without the datasets library; install it with pip install 'fedmend[hub]', use a "
            "parquet file, or set FEDMEND_DATA to a folder of datasets"
        ) from error
    with as_data_error(what, _ADVICE), _without_retries(dataset_id):
        dataset = datasets.load_dataset(dataset_id, split=split)
        if not isinstance(dataset, datasets.Dataset):
            raise DataError(
                f"can't read {what}: got a {type(dataset).__name__}, expected one split; {_ADVICE}"
            )
        image, label = image_and_label(dataset.features.arrow_schema, dataset_id)
        table = dataset.select_columns([label]).with_format("arrow")[:]
        labels, texts = label_values(table.column(label).chunks, label, dataset_id)
        names = texts or getattr(dataset.features[label], "names", None)
        decoder = partial(_decode, dataset.select_columns([image]), dataset_id, wanted.size)
        classes = wanted.classes or (texts and in_order(texts))
        return opened_images(labels, names and tuple(names), decoder, dataset_id, classes)


def _decode(images: Any, dataset_id: str, size: Size | None, rows: list[int]) -> Tensor:
    with as_data_error(dataset_id, _ADVICE):
        return decode(_encoded(images, dataset_id, rows), len(rows), images.data.nbytes, size)


def _encoded(images: Any, dataset_id: str, rows: list[int]) -> Iterator[tuple[str, bytes]]:
    """The rows' encoded images, a few rows at a time."""
    import datasets
    from datasets.table import embed_table_storage

    (column,) = images.column_names
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        chosen = rows[start : start + _ROWS_AT_ONCE]
        table = images.select(chosen).with_format("arrow")[:]
        if isinstance(images.features[column], datasets.Image):
            # Read images that are stored in files outside the dataset's own into the table.
            table = embed_table_storage(table.cast(images.features.arrow_schema))
        yield from encoded_images(
            table.column(column).chunks, list(range(len(chosen))), chosen, f"of {dataset_id}"
        )


@contextmanager
def _without_retries(dataset_id: str) -> Iterator[None]:
    """Have ``datasets`` use only its cache if the hub can't be reached, which it would try for long."""
    import datasets
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    before = datasets.config.HF_HUB_OFFLINE
    try:
        if not before:
            HfApi().dataset_info(dataset_id, timeout=_SECONDS_TO_ANSWER)
    except HfHubHTTPError:
        pass  # it was reached, and load_dataset says what is wrong
    except Exception:  # what is raised depends on the version's HTTP library
        datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before
