"""Labelled images from datasets on the Hugging Face hub, with the optional ``datasets`` library."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from fedmend.data.decoding import decode
from fedmend.data.failures import as_data_error
from fedmend.data.lazy_images import LazyImages, opened_images
from fedmend.data.tables import encoded_images, image_and_label, label_values
from fedmend.errors import DataError

_ADVICE = (
    "check the name, the split and the network; without a network use a parquet file, or set FEDMEND_DATA to a "
    "folder of datasets"
)


def open_hub(dataset_id: str, split: str, size: tuple[int, int] | None = None) -> LazyImages:
    """Open a split of a dataset on the hub, which ``datasets`` downloads and caches.

    Args:
        dataset_id: such as ``ylecun/mnist``.
        split: such as ``test``.
        size: (H, W) in pixels to scale the images to; None keeps their sizes.

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
    with as_data_error(what, _ADVICE):
        dataset = datasets.load_dataset(dataset_id, split=split)
        if not isinstance(dataset, datasets.Dataset):
            raise DataError(
                f"can't read {what}: got a {type(dataset).__name__}, expected one split; {_ADVICE}"
            )
        image, label = image_and_label(dataset.features.arrow_schema, dataset_id)
        table = dataset.select_columns([label]).with_format("arrow")[:]
        labels = label_values(table.column(label), label, dataset_id)
        names = getattr(dataset.features[label], "names", None)
        decoder = partial(_decode, dataset.select_columns([image]), dataset_id, size)
        return opened_images(labels, names and tuple(names), decoder, dataset_id)


def _decode(images: Any, dataset_id: str, size: tuple[int, int] | None, rows: list[int]) -> Tensor:
    import datasets
    from datasets.table import embed_table_storage

    with as_data_error(dataset_id, _ADVICE):
        (column,) = images.column_names
        table = images.select(rows).with_format("arrow")[:]
        if isinstance(images.features[column], datasets.Image):
            # Read images that are stored in files outside the dataset's own into the table.
            table = embed_table_storage(table.cast(images.features.arrow_schema))
        positions = list(range(len(rows)))
        return decode(encoded_images(table.column(column), positions, rows, f"of {dataset_id}"), size)
