"""Labelled images from parquet files; only the needed rows' images are read and decoded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from fedmend.data.class_names import check_names, in_order
from fedmend.data.decoding import decode
from fedmend.data.failures import as_data_error
from fedmend.data.lazy_images import LazyImages, Size, Wanted, opened_images
from fedmend.data.limits import MOST_IMAGES, check_is_file, check_unpacked
from fedmend.data.parquet_pages import largest_page
from fedmend.errors import DataError

# DLPack and scalars rather than to_numpy() and take(): those import pandas and pyarrow.compute, half a second.

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
_ADVICE = "expected a parquet file with an image column and a label column"
_BATCH_BYTES = 2**26
_MOST_ROWS = 4096


def open_parquet(path: Path, wanted: Wanted) -> LazyImages:
    """Open a parquet file with a column of encoded images and one of labels; only the labels are read at once.

    Labels are integers or texts. Class names come from the metadata that the ``datasets`` library writes. Only row
    groups with needed images are read, a few rows at a time.

    Raises:
        DataError: the file is missing, damaged or unpacks to too much, or its columns can't be used.
    """
    where = str(path)
    with as_data_error(where, _ADVICE):
        check_is_file(path)
        with _opened(path) as file:
            schema = file.schema_arrow
            image, label = image_and_label(schema, where)
            groups = range(file.num_row_groups)
            rows = sum(file.metadata.row_group(group).num_rows for group in groups)
            if rows > MOST_IMAGES:
                raise DataError(f"{where} has {rows:,} rows; expected at most {MOST_IMAGES:,}; split it")
            labels, texts = label_values(_batches(path, file, groups, label), label, where)
        leaf = f"{image}.bytes" if pa.types.is_struct(schema.field(image).type) else image
        decoder = partial(_decode, path, leaf, wanted.size)
        names = _class_names(schema, label) if texts is None else texts
        return opened_images(labels, names, decoder, where, wanted.classes or (texts and in_order(texts)))


def _opened(path: Path) -> Any:
    return pq.ParquetFile(path, buffer_size=2**20)  # reads bit by bit, not a whole row group


def _decode(path: Path, leaf: str, size: Size | None, rows: list[int]) -> Tensor:
    with as_data_error(str(path), _ADVICE):
        return decode(_encoded(path, leaf, rows), len(rows), path.stat().st_size, size)


def _encoded(path: Path, leaf: str, rows: list[int]) -> Iterator[tuple[str, bytes]]:
    """The rows' encoded images, one row group at a time."""
    with _opened(path) as file:
        first, remaining = 0, rows
        for group in range(file.num_row_groups):
            after = first + file.metadata.row_group(group).num_rows
            chosen = [row for row in remaining if row < after]
            if chosen:
                positions = [row - first for row in chosen]
                yield from encoded_images(
                    _batches(path, file, [group], leaf), positions, chosen, f"of {path}"
                )
            first, remaining = after, remaining[len(chosen) :]


def _batches(path: Path, file: Any, groups: Iterable[int], leaf: str) -> Iterator[Any]:
    """A column's values, so few at a time that they need little memory even if each is as large as the largest page."""
    unpacked, stored = 0, path.stat().st_size
    for group in groups:
        metadata = file.metadata.row_group(group)
        if not metadata.num_rows:
            continue
        columns = [metadata.column(index) for index in range(metadata.num_columns)]
        largest = largest_page(path, [column for column in columns if column.path_in_schema == leaf])
        size = min(_MOST_ROWS, max(1, _BATCH_BYTES // max(1, largest)))
        for batch in file.iter_batches(size, row_groups=[group], columns=[leaf], use_threads=False):
            unpacked += batch.nbytes
            check_unpacked(unpacked, stored, f"column {leaf!r} of {path}")
            yield batch.column(0)


def label_values(
    chunks: Iterable[Any], column: str, where: str
) -> tuple[np.ndarray[Any, Any], tuple[str, ...] | None]:
    """A column of labels as integers, (N,), and None; or, of texts, as indices into the distinct texts, and these.

    Raises:
        DataError: the column is empty, or a label is missing.
    """
    values: list[np.ndarray[Any, Any]] = []
    texts: dict[str, int] = {}
    for chunk in chunks:
        if chunk.null_count:
            raise DataError(f"column {column!r} of {where} has rows without a label; fill or drop them")
        if pa.types.is_integer(chunk.type):
            values.append(np.from_dlpack(chunk))
            continue
        codes = [texts.setdefault(text, len(texts)) for text in chunk.to_pylist()]
        values.append(np.array(codes, dtype=np.int64))
        check_names(list(texts), where)
    if not values:
        raise DataError(f"{where} has no rows; at least one image is needed")
    return np.concatenate(values), tuple(texts) or None


def encoded_images(
    chunks: Iterable[Any], positions: list[int], rows: list[int], where: str
) -> Iterator[tuple[str, bytes]]:
    """Each image's name in errors, and its encoded bytes.

    Args:
        chunks: a column's values, bytes or structs with bytes.
        positions: the images' positions in the column, ascending.
        rows: their row numbers in the file, for errors.
        where: the source's name in errors.

    Raises:
        DataError: a row has no bytes.
    """
    start, done = 0, 0
    for chunk in chunks:
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
        if done == len(positions):
            return
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
    if label is None or not (label in integers or _is_text(schema.field(label).type)):
        raise DataError(
            f"{where} needs one column of integer labels, called label, labels, fine_label or class if there are "
            f"several or if they are texts; got columns {came}"
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


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


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
