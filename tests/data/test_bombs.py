"""Small files that would unpack to gigabytes, and files that never end: refused before they take memory or time."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import GREY, png, refused, write_parquet
from PIL import Image

import fedmend
from fedmend.data import array_files, limits, load_images, parquet_pages, read_class_names
from fedmend.data.parquet_pages import largest_page
from fedmend.errors import DataError

LOADING = """
import sys, time
from pathlib import Path
from fedmend.data import load_images
for path in sys.argv[1:]:
    try:
        load_images(path)
    except Exception as error:
        print(type(error).__name__, error)
# Not ru_maxrss, which also counts what the parent used before this process began.
(peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) * 1024, time.process_time())
"""


def blank(side: int) -> bytes:
    """A PNG of one bit per pixel."""
    stream = io.BytesIO()
    Image.new("1", (side, side)).save(stream, "PNG")
    return stream.getvalue()


def blank_images(path: Path, scale: int) -> None:
    write_parquet(path, image=[blank(250 * scale)] * 100, label=[0] * 100)


def a_long_dictionary_value(path: Path, scale: int) -> None:
    values = pa.array([blank(10) + bytes(20_000 * scale**2)])
    images = pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int8()), values)
    table = pa.table({"image": images, "label": [0] * 400})
    pq.write_table(table, path, compression="zstd", store_schema=False)


def long_prefixes(path: Path, scale: int) -> None:
    """Each value is stored as the length of what it shares with the one before, and the rest."""
    images = [blank(10) + bytes(20_000 * scale**2) + bytes([each]) for each in range(100)]
    columns = {"image": "DELTA_BYTE_ARRAY", "label": "PLAIN"}
    table = pa.table({"image": images, "label": [0] * 100})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, column_encoding=columns)


def a_large_page(path: Path, scale: int) -> None:
    table = pa.table({"image": [bytes(300_000 * scale**2)], "label": [0]})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)


def npz(path: Path, **members: tuple[str, str, int]) -> None:
    """Deflated arrays of zeros: type, shape, bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (kind, shape, size) in members.items():
            header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
            start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
            archive.writestr(f"{name}.npy", start + bytes(size))


def large_images(path: Path, scale: int) -> None:
    images = f"(600, 1000, {scale**2})"
    npz(path, images=("|u1", images, 600_000 * scale**2), labels=("|u1", "(600,)", 600))


def a_long_class_name(path: Path, scale: int) -> None:
    few = {"images": ("|u1", "(2, 4, 4)", 32), "labels": ("|u1", "(2,)", 2)}
    npz(path, **few, class_names=(f"<U{70_000 * scale**2}", "(1,)", 280_000 * scale**2))


def long_labels(path: Path, scale: int) -> None:
    npz(
        path,
        images=("|u1", "(2, 4, 4)", 32),
        labels=(f"<U{35_000 * scale**2}", "(2,)", 280_000 * scale**2),
    )


BOMBS: dict[Callable[[Path, int], None], tuple[str, str]] = {
    blank_images: ("parquet", "images of 250x250 such as row 0 of .* would unpack"),
    a_long_dictionary_value: ("parquet", "column 'image' of .* would unpack"),
    long_prefixes: ("parquet", "column 'image' of .* would unpack"),
    a_large_page: ("parquet", "has a page of"),
    large_images: ("npz", "'images.npy' of .* would unpack"),
    a_long_class_name: ("npz", "class_names.npy of .* expected at most"),
    long_labels: ("npz", "labels.npy of .* expected at most"),
}


@pytest.fixture
def a_thousandth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that small bombs are above, so that the tests take no time."""
    monkeypatch.setattr(limits, "_ALWAYS", 2**19)
    for module in (parquet_pages, array_files):
        monkeypatch.setattr(module, "LARGEST_PART", 2**18)


@pytest.mark.parametrize("make", BOMBS, ids=lambda make: make.__name__)
def test_what_unpacks_to_too_much_is_refused(
    make: Callable[[Path, int], None], tmp_path: Path, a_thousandth: None
) -> None:
    kind, told = BOMBS[make]
    path = tmp_path / f"bomb.{kind}"
    make(path, 1)
    assert path.stat().st_size < 20_000
    refused(path, match=told)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_gigabytes_take_neither_memory_nor_time(tmp_path: Path) -> None:
    """Some of the same in full size, read by a process of its own."""
    paths = []
    for make in (blank_images, a_long_dictionary_value):
        paths.append(tmp_path / f"{make.__name__}.parquet")
        make(paths[-1], 32)
    done = subprocess.run(
        [sys.executable, "-c", LOADING, *map(str, paths)],
        env=os.environ | {"PYTHONPATH": str(Path(fedmend.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    *errors, used = done.stdout.splitlines()
    assert all("would unpack" in error for error in errors)
    assert len(errors) == 2
    memory, seconds = map(float, used.split())
    assert memory < 2**30
    assert seconds < 20


def test_well_compressed_data_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than any small file may have, but in a file that isn't small."""
    monkeypatch.setattr(limits, "_ALWAYS", 2**19)
    pixels = np.random.default_rng(0).integers(0, 255, (100, 80, 80)).astype(np.uint8)
    np.savez_compressed(tmp_path / "a.npz", images=pixels, labels=np.zeros(100, np.int64))
    encoded = [png(each) for each in pixels]
    for path in (tmp_path / "a.npz", write_parquet(tmp_path / "b.parquet", image=encoded, label=[0] * 100)):
        assert load_images(path).images.shape == (100, 1, 80, 80)


def test_images_of_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "p.parquet", image=[png(GREY[0])], label=[0])
    monkeypatch.setattr("fedmend.data.decoding.LARGEST_IMAGE", 29)
    refused(path, match="6x5 pixels; expected at most 29 in one image")


def test_many_pixels_are_refused_however_small_the_result(tmp_path: Path, a_thousandth: None) -> None:
    path = write_parquet(tmp_path / "p.parquet", image=[blank(500)] * 3, label=[0] * 3)
    with pytest.raises(DataError, match="would unpack"):
        load_images(path, resize=(2, 2))


def test_more_rows_than_any_data_set_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmend.data.tables.MOST_IMAGES", 3)
    refused(
        write_parquet(tmp_path / "p.parquet", image=[png(each) for each in GREY], label=[0] * 4),
        match="has 4 rows; expected at most 3",
    )


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_than_numpy_uses(tmp_path: Path, compression: int) -> None:
    np.savez(tmp_path / "a.npz", images=GREY, labels=[0, 1, 2, 2])
    with (
        zipfile.ZipFile(tmp_path / "a.npz") as plain,
        zipfile.ZipFile(tmp_path / "b.npz", "w", compression) as archive,
    ):
        for name in plain.namelist():
            archive.writestr(name, plain.read(name))
    refused(tmp_path / "b.npz", match="compressed in a way")


@pytest.mark.parametrize("name", ["images.npz", "images.parquet"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    refused(tmp_path / name, match="not a regular file")
    with pytest.raises(DataError, match="not a regular file"):
        read_class_names(tmp_path / name)


def test_a_pipe_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDMEND_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    os.mkfifo(tmp_path / "mnist" / "test.parquet")
    refused("mnist", match="not a regular file")


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "zstd", "snappy"])
def test_page_sizes_are_those_of_the_headers(tmp_path: Path, version: str, compression: str) -> None:
    """Whatever the footer says: here it agrees, headers included."""
    table = pa.table({"image": [bytes(each) for each in range(2000)], "label": [0] * 2000})
    options = {"compression": compression, "data_page_version": version, "use_dictionary": False}
    pq.write_table(table, tmp_path / "one.parquet", **options, data_page_size=2**30, write_batch_size=5000)
    pq.write_table(table, tmp_path / "many.parquet", **options, data_page_size=1000, write_batch_size=10)
    sizes = {}
    for name in ("one", "many"):
        with pq.ParquetFile(tmp_path / f"{name}.parquet") as file:
            chunk = file.metadata.row_group(0).column(0)
        sizes[name] = largest_page(tmp_path / f"{name}.parquet", [chunk])
    assert chunk.total_uncompressed_size > 2_000_000
    assert 1_999_000 < sizes["one"] < chunk.total_uncompressed_size
    assert 10_000 < sizes["many"] < 30_000


@pytest.mark.parametrize(
    "header",
    [b"", b"\x15", b"\x15\x00\x15\x01", b"\x19\xf5\xff\xff", b"\x1c" * 100, b"\x15\x02\x05\x02\x02\x00"],
)
def test_damaged_page_headers(tmp_path: Path, header: bytes) -> None:
    class Chunk:
        data_page_offset, total_compressed_size, has_dictionary_page = 0, 100, False

    (tmp_path / "p").write_bytes(header)
    with pytest.raises(EOFError):
        largest_page(tmp_path / "p", [Chunk])
