"""Images, labels and lists of classes at random: damaged, of odd types, or small files that unpack to much."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hostile_models import CANARY
from mutations import ESCAPES, changed_bytes
from PIL import Image


class _RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (CANARY,)


def hostile_data(rng: random.Random, images: Path, folder: Path) -> Path:
    """A file or folder of images in ``folder``; ``images`` is an intact .npz."""
    match rng.randrange(7):
        case 0:
            path = folder / "images.npz"
            path.write_bytes(changed_bytes(rng, images.read_bytes()))
        case 1 | 2:
            path = folder / "images.npz"
            _write_arrays(rng, images, path)
        case 3 | 4:
            path = folder / "images.parquet"
            _write_table(rng, path)
            if rng.random() < 0.5:
                path.write_bytes(changed_bytes(rng, path.read_bytes()))
        case _:
            path = folder / "images"
            _write_folder(rng, path)
    return path


def hostile_classes(rng: random.Random, path: Path) -> Path:
    """A list of class names."""
    content: tuple[bytes, ...] = (
        *(b"", b"\n" * 10**6, b"\xff\xfe\x00", b"a\na\n", b"x" * 10**7, ESCAPES.encode() + b"\nb\nc\nd"),
        *(b"a\nb\nc\n\xff\x1b[2K\n", b"\x00\n1\n2\n3\n", "".join(f"{n}\n" for n in range(10**6)).encode()),
    )
    path.write_bytes(rng.choice(content))
    return path


def _write_arrays(rng: random.Random, intact: Path, path: Path) -> None:
    with np.load(intact) as given:
        images, labels = given["images"], given["labels"]
    count = len(labels)
    odd_images = (
        *(images, images, images.astype("f4"), images.astype("f4") * np.nan, images.astype("c8"), images[:0]),
        *(images[..., None], images.astype(">i8"), images.astype("U3"), np.zeros((count, 0, 8), "u1")),
        *(np.array(3), np.array([_RunsCode()] * count), images[:, ::-1][: count - 1], images.view("V8")),
    )
    odd_labels = (
        *(labels, labels, labels.astype("f8"), labels - 1, labels + 2**40, labels[:, None], labels[:-1]),
        *(labels.astype("U9"), np.array([_RunsCode()] * count), np.full(count, np.nan), labels * 10**6),
    )
    arrays = {"images": rng.choice(odd_images), "labels": rng.choice(odd_labels)}
    names = ["a", "b", "c", "d"]
    odd_names = (
        *(names, names[:1], [ESCAPES, *names[1:]], ["x" * 10**6, *names], ["\x00", "\n", "c", "d"]),
        *([3, 4, 5, 6], [b"\xff", b"b", b"c", b"d"], [["a"]], ["a"] * 4, [_RunsCode()] * 4),
    )
    if rng.random() < 0.6:
        arrays["class_names"] = np.array(rng.choice(odd_names))
    if rng.random() < 0.1:
        arrays[rng.choice((ESCAPES, "../../x", "pickle"))] = images
    np.savez_compressed(path, **arrays)
    if rng.random() < 0.2:
        _write_bomb(path)


def _write_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, shape in ("images", (4000, 1, 250, 250)), ("labels", (4000,)):
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array_header_1_0(
                    entry, {"descr": "|u1", "fortran_order": False, "shape": shape}
                )
                for _ in range(int(np.prod(shape)) // 1000):
                    entry.write(bytes(1000))


def _write_table(rng: random.Random, path: Path) -> None:
    count = 40
    encoded = [_encoded(rng) if rng.random() < 0.1 else _picture(rng) for _ in range(count)]
    as_dicts = [{"bytes": content, "path": ESCAPES} for content in encoded]
    images = rng.choice(
        (as_dicts, as_dicts, as_dicts, encoded, [None] * count, [[1]] * count, [{"bytes": None}] * count)
    )
    labels = rng.choice(
        (
            *([n % 4 for n in range(count)],) * 3,
            *([ESCAPES] * count, [f"c{n % 4}" for n in range(count)], [None] * count, [0.5] * count),
            *([2**62] * count, [-1] * count, [[1]] * count, ["x" * 10**6] * count),
        )
    )
    names = rng.choice(
        (("image", "label"),) * 4 + (("img", "labels"), (ESCAPES, "label"), ("image", "image"))
    )
    table = pa.Table.from_arrays([pa.array(images), pa.array(labels)], names=list(names))
    pq.write_table(table, path, compression=rng.choice(("snappy", "zstd", "gzip", "none")))


def _picture(rng: random.Random, side: int = 8) -> bytes:
    stream = io.BytesIO()
    pixels = np.frombuffer(rng.randbytes(side * side), "u1").reshape(side, side)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _encoded(rng: random.Random) -> bytes:
    """One image, damaged, of an odd kind, or one that claims to be large."""
    match rng.randrange(6):
        case 0:
            return changed_bytes(rng, _picture(rng))
        case 1:
            stream = io.BytesIO()
            kind = rng.choice(("JPEG", "BMP", "WEBP", "GIF", "TIFF"))
            Image.new(rng.choice(("L", "RGB")), (8, 8)).save(stream, kind)
            return changed_bytes(rng, stream.getvalue()) if rng.random() < 0.5 else stream.getvalue()
        case 2:
            side = rng.choice((0, 1, 30_000, 2**31 - 1))
            return _png(side, rng.choice((8, 1, side)), zlib.compress(bytes(10**6)))
        case 3:
            return _png(8, 8, zlib.compress(bytes(50_000_000)))
        case 4:
            text = b"x\0\0" + zlib.compress(b"A" * 30_000_000)
            return _png(8, 8, zlib.compress(bytes(72)), text)
        case _:
            return rng.choice((b"", b"\x89PNG\r\n\x1a\n", rng.randbytes(100), b"%!PS-Adobe-3.0 EPSF-3.0\n"))


def _png(width: int, height: int, pixels: bytes, text: bytes | None = None) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + (chunk(b"zTXt", text) if text else b"")
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def _write_folder(rng: random.Random, folder: Path) -> None:
    names = [b"a", b"b", b"c", b"d"]
    if rng.random() < 0.5:
        names[rng.randrange(4)] = rng.choice(
            (ESCAPES.replace("/", "-").encode(), b"\xff\xfe", b"x" * 250, b".", b"e\n")
        )
    for name in names:
        inner = folder / os.fsdecode(name)
        inner.mkdir(parents=True, exist_ok=True)
        for number in range(8):
            odd = rng.random() < 0.05
            content = _encoded(rng) if odd else _picture(rng, rng.choice((8,) * 30 + (9,)))
            (inner / f"{number}.png").write_bytes(content)
    inner = folder / "a"
    inner.mkdir(exist_ok=True)
    match rng.randrange(8):
        case 0:
            os.mkfifo(inner / "pipe.png")
        case 1:
            (inner / "device.png").symlink_to("/dev/zero")
        case 2:
            (inner / "loop").symlink_to(folder)
        case 3:
            (inner / os.fsdecode(b"\x1b[2K\xff.png")).write_bytes(rng.randbytes(10))
        case 4:
            with (inner / "large.png").open("wb") as file:
                file.truncate(rng.choice((2**31, 2**33)))
        case 5:
            (inner / "nested.png").mkdir()
        case _:
            pass
