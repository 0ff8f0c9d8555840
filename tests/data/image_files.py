"""Small images, files of them, and what must hold of a source that can't be used."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from fedmend.data import ImageSet, load_images
from fedmend.errors import DataError

GREY = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
COLOUR = np.arange(4 * 5 * 6 * 3, dtype=np.int64).reshape(4, 5, 6, 3).astype(np.uint8)
LABELS = [0, 2, 1, 2]


def png(array: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


def write_parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def refused(source: Any, split: str = "test", match: str = "expected") -> str:
    with pytest.raises(DataError, match=match) as caught:
        load_images(source, split)
    message = str(caught.value)
    assert "\n" not in message
    return message


def assert_grey(images: ImageSet, names: tuple[str, ...]) -> None:
    assert torch.equal(images.images, torch.from_numpy(GREY)[:, None])
    assert images.labels.tolist() == LABELS
    assert images.class_names == names


def assert_colour(images: ImageSet) -> None:
    assert torch.equal(images.images, torch.from_numpy(COLOUR).permute(0, 3, 1, 2))
