"""Small files that would unpack to gigabytes, files that never end, and how much memory refusing them takes."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import GREY, png, write_parquet
from PIL import Image

from fedmend.data import open_images, read_class_names
from fedmend.data.limits import check_unpacked
from fedmend.data.parquet_pages import largest_page
from fedmend.errors import DataError

MOST_MEMORY = 2**30
SECONDS = 20
LOADING = """
import resource, sys, time
from fedmend.data import load_images
for path in sys.argv[1:]:
    started = time.process_time()
    try:
        load_images(path)
    except Exception as error:
        print(type(error).__name__, error)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, time.process_time() - started)
"""


def blank(side: int, mode: str = "1") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (side, side)).save(stream, "PNG")
    return stream.getvalue()


def many_blank_images(path: Path) -> None:
    write_parquet(path, image=[blank(8000)] * 100, label=[0] * 100)


def one_huge_image(path: Path) -> None:
    write_parquet(path, image=[blank(9000)], label=[0])


def a_long_dictionary_value(path: Path) -> None:
    values = pa.array([blank(10) + bytes(20_000_000)])
    images = pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int8()), values)
    table = pa.table({"image": images, "label": [0] * 400})
    pq.write_table(table, path, compression="zstd", store_schema=False)


def a_long_prefix(path: Path) -> None:
    """Each value is stored as the length of what it shares with the one before, and the rest."""
    images = [blank(10) + bytes(5_000_000) + bytes([each]) for each in range(120)]
    columns = {"image": "DELTA_BYTE_ARRAY", "label": "PLAIN"}
    table = pa.table({"image": images, "label": [0] * 120})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, column_encoding=columns)


def a_large_page(path: Path) -> None:
    table = pa.table({"image": [bytes(300_000_000)], "label": [0]})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)


def endless_rows(path: Path) -> None:
    zeros = pa.array(np.zeros(10_000_001, np.int8))
    images = pa.DictionaryArray.from_arrays(zeros, pa.array([b""]))
    pq.write_table(pa.table({"image": images, "label": zeros}), path, store_schema=False)


def npz(path: Path, **members: tuple[str, str, int]) -> None:
    """Deflated arrays of zeros, by name: type, shape, bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, (kind, shape, size) in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
                stream.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
                for start in range(0, size, 2**24):
                    stream.write(bytes(min(2**24, size - start)))


def large_images(path: Path) -> None:
    npz(path, images=("|u1", "(600, 1000, 1000)", 6 * 10**8), labels=("|u1", "(600,)", 600))


def long_class_names(path: Path) -> None:
    images = {"images": ("|u1", "(2, 4, 4)", 32), "labels": ("|u1", "(2,)", 2)}
    npz(path, **images, class_names=("<U3500000", "(20,)", 280_000_000))


def wide_labels(path: Path) -> None:
    npz(path, images=("|u1", "(2, 4, 4)", 32), labels=("<U35000000", "(2,)", 280_000_000))


BOMBS: dict[Callable[[Path], None], str] = {
    many_blank_images: "parquet",
    one_huge_image: "parquet",
    a_long_dictionary_value: "parquet",
    a_long_prefix: "parquet",
    a_large_page: "parquet",
    endless_rows: "parquet",
    large_images: "npz",
    long_class_names: "npz",
    wide_labels: "npz",
}
