"""Labelled images from columnar tables: parquet files and datasets of the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fedmend.data.arrays import image_set_from
from fedmend.data.decoding import decode, reading
from fedmend.data.image_set import ImageSet
from fedmend.errors import DataError

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label")


def read_parquet(path: Path) -> ImageSet:
    """Read a parquet file with a column of encoded images and one of integer labels.

    Class names come from the metadata that the ``datasets`` library writes; without it they are the labels.

    Raises:
        DataError: the file is missing, damaged, or its columns can't be used.
    """
    with reading(str(path), "expected a parquet file with an image column and an integer label column"):
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            columns = _columns(schema, str(path))
            table = file.read(columns=list(columns))
        return table_to_images(table, columns, _class_names(schema, columns[1]), str(path))


def read_hub(dataset_id: str, split: str, size: tuple[int, int] | None = None) -> ImageSet:
    """Load a split of a dataset of the hub, scaled to ``size`` (H, W) if given.

    Raises:
        DataError: the dataset or split can't be had, or its columns can't be used.
    """
    what = f"split {split!r} of {dataset_id!r} from the Hugging Face hub"
    advice = (
        "check the name, the split and the network; without a network give a parquet file, or set "
        "FEDMEND_DATA to a folder of datasets"
    )
    with reading(what, advice):
        import datasets  # takes seconds to import, and only the hub needs it
        from datasets.table import embed_table_storage

        dataset = datasets.load_dataset(dataset_id, split=split)
        if not isinstance(dataset, datasets.Dataset):
            raise DataError(
                f"can't read {what}: got a {type(dataset).__name__}, expected one split; {advice}"
            )
        columns = _columns(dataset.features.arrow_schema, dataset_id)
        dataset = dataset.select_columns(list(columns))
        table = dataset.with_format("arrow")[:]
        if isinstance(dataset.features[columns[0]], datasets.Image):
            # Images that are kept as files beside the dataset's own are read into the table.
            table = embed_table_storage(table.cast(dataset.features.arrow_schema))
        names = getattr(dataset.features[columns[1]], "names", None)
        return table_to_images(table, columns, names and tuple(names), dataset_id, size)


def table_to_images(
    table: Any,
    columns: tuple[str, str],
    class_names: tuple[str, ...] | None,
    where: str,
    size: tuple[int, int] | None = None,
) -> ImageSet:
    """Decode a table's image column; ``columns`` names it and the label column.

    Raises:
        DataError: a value is missing, an image is damaged, or a label is out of range.
    """
    images, labels = (table.column(name) for name in columns)
    if labels.null_count:
        raise DataError(f"column {columns[1]!r} of {where} has rows without a label; fill or drop them")
    if len(table) == 0:
        raise DataError(f"{where} has no rows; at least one image is needed")
    pixels = decode(_encoded(images, f"of {where}"), size)
    return image_set_from(pixels, np.asarray(labels.to_numpy()), class_names, where)


def _encoded(column: Any, where: str) -> Iterator[tuple[str, bytes]]:
    row = 0
    for chunk in column.chunks:
        values = pc.struct_field(chunk, "bytes") if pa.types.is_struct(chunk.type) else chunk
        for encoded in values.to_pylist():
            if encoded is None:
                raise DataError(
                    f"row {row} {where} has no image bytes; embed the images in the file or drop the row"
                )
            yield f"row {row} {where}", encoded
            row += 1


def _columns(schema: Any, where: str) -> tuple[str, str]:
    """The names of the image column and the label column."""
    came = ", ".join(f"{field.name}: {_short(field.type)}" for field in schema) or "none"
    images = [field.name for field in schema if _holds_images(field.type)]
    image = _only(images, _IMAGE_COLUMNS)
    if image is None:
        raise DataError(
            f"{where} needs one column of encoded images (bytes, or a struct with bytes), called image or "
            f"img if there are several; got columns {came}"
        )
    named = next((name for name in _LABEL_COLUMNS if name in schema.names), None)
    integers = [field.name for field in schema if pa.types.is_integer(field.type)]
    label = named if named is not None else _only(integers, ())
    if label is None or label not in integers:
        raise DataError(
            f"{where} needs one column of integer labels, called label, labels or fine_label if there are "
            f"several; got columns {came}"
        )
    return image, label


def _only(names: list[str], preferred: tuple[str, ...]) -> str | None:
    return names[0] if len(names) == 1 else next((name for name in preferred if name in names), None)


def _holds_images(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _short(kind: Any) -> str:
    return " ".join(str(kind).split())[:60]


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """The label's names in the ``datasets`` library's metadata, or None if there are none to read."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (TypeError, KeyError, ValueError):
        return None
    usable = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    return tuple(names) if usable else None
