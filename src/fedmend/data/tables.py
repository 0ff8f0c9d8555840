"""Labelled images from parquet files; only the needed rows' images are read and decoded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from fedmend.data.decoding import decode
from fedmend.data.failures import as_data_error
from fedmend.data.lazy_images import LazyImages, opened_images
from fedmend.errors import DataError

# DLPack and scalars rather than to_numpy() and take(): those import pandas and pyarrow.compute, half a second.

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label")
_ADVICE = "expected a parquet file with an image column and an integer label column"


def open_parquet(path: Path) -> LazyImages:
    """Open a parquet file with a column of encoded images and one of integer labels; only the labels are read at once.

    Class names come from the metadata that the ``datasets`` library writes; without it they are the labels. Only row
    groups with needed images are read.

    Raises:
        DataError: the file is missing, damaged, or its columns can't be used.
    """
    where = str(path)
    with as_data_error(where, _ADVICE):
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            image, label = image_and_label(schema, where)
            labels = label_values(file.read(columns=[label]).column(label), label, where)
        return opened_images(labels, _class_names(schema, label), partial(_decode, path, image), where)


def _decode(path: Path, column: str, rows: list[int]) -> Tensor:
    with as_data_error(str(path), _ADVICE):
        return decode(_encoded(path, column, rows))


def _encoded(path: Path, column: str, rows: list[int]) -> Iterator[tuple[str, bytes]]:
    """The rows' encoded images, one row group at a time."""
    with pq.ParquetFile(path) as file:
        first, remaining = 0, rows
        for group in range(file.num_row_groups):
            after = first + file.metadata.row_group(group).num_rows
            wanted = [row for row in remaining if row < after]
            if wanted:
                images = file.read_row_group(group, columns=[column]).column(column)
                yield from encoded_images(images, [row - first for row in wanted], wanted, f"of {path}")
            first, remaining = after, remaining[len(wanted) :]


def label_values(labels: Any, column: str, where: str) -> np.ndarray[Any, Any]:
    """A column of labels as integers, (N,).

    Raises:
        DataError: the column is empty, or a label is missing.
    """
    if labels.null_count:
        raise DataError(f"column {column!r} of {where} has rows without a label; fill or drop them")
    if len(labels) == 0:
        raise DataError(f"{where} has no rows; at least one image is needed")
    return np.concatenate([np.from_dlpack(chunk) for chunk in labels.chunks])


def encoded_images(
    images: Any, positions: list[int], rows: list[int], where: str
) -> Iterator[tuple[str, bytes]]:
    """Each image's name in errors, and its encoded bytes.

    Args:
        images: a column of bytes, or of structs with bytes.
        positions: the images' positions in the column, ascending.
        rows: their row numbers in the file, for errors.
        where: the source's name in errors.

    Raises:
        DataError: a row has no bytes.
    """
    start, done = 0, 0
    for chunk in images.chunks:
        values = (
            chunk.flatten()[chunk.type.get_field_index("bytes")] if pa.types.is_struct(chunk.type) else chunk
        )
        while done < len(positions) and positions[done] < start + len(chunk):
            encoded = values[positions[done] - start].as_py()
            if encoded is None:
                raise DataError(
                    f"row {rows[done]} {where} has no image bytes; embed the images in the file or drop the row"
                )
            yield f"row {rows[done]} {where}", encoded
            done += 1
        start += len(chunk)


def image_and_label(schema: Any, where: str) -> tuple[str, str]:
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
    """The label's names in the ``datasets`` library's metadata; None if there are none."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (TypeError, KeyError, ValueError):
        return None
    usable = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    return tuple(names) if usable else None
