"""Model files at random: damaged ones, and ones made to run code or to take memory or time."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mutations import ESCAPES, WHOLE_NUMBERS, changed_bytes, changed_json

CANARY = "code-was-run"

_PAYLOADS = (
    ("builtins", "open", (CANARY, "w")),
    ("os", "system", (f"touch {CANARY}",)),
    ("posix", "mkdir", (CANARY,)),
    ("builtins", "exec", (f"open({CANARY!r}, 'w')",)),
    ("torch.serialization", "load", (CANARY,)),
    ("builtins", "bytearray", (6 * 2**30,)),
    ("_codecs", "encode", ("x" * 1000, "utf-8")),
    ("numpy.core.multiarray", "_reconstruct", (2**40,)),
    ("torch._utils", "_rebuild_tensor_v2", (None, 0, (2**40,), (1,), False, None)),
    ("torch._utils", "_rebuild_parameter", ()),
    ("collections", "OrderedDict", ([(1, 2)] * 100,)),
)


class _Call:
    """Pickled as a call of any function by name."""

    def __init__(self, module: str, name: str, args: tuple[object, ...]) -> None:
        self.call = (module, name, args)


class _Pickler(pickle._Pickler):
    """Writes :class:`_Call` without importing what it names."""

    def save(self, value: object, save_persistent_id: bool = True) -> None:
        if not isinstance(value, _Call):
            super().save(value, save_persistent_id)
            return
        module, name, args = value.call
        self.write(b"c" + f"{module}\n{name}\n".encode())
        super().save(args, save_persistent_id)
        self.write(b"R")


def hostile_model(rng: random.Random, bases: list[Path]) -> tuple[bytes, str]:
    """A file's content and suffix."""
    base = rng.choice(bases)
    content = base.read_bytes()
    if rng.random() < 0.45:
        suffix = rng.choice((base.suffix, base.suffix, base.suffix, ".pt", ".safetensors", ".npz", ""))
        return changed_bytes(rng, content), suffix
    makers: tuple[Callable[[random.Random, list[Path]], tuple[bytes, str]], ...] = (
        *(_call, _opcodes, _opcodes, _changed_pickle, _changed_pickle, _header, _header, _sizes),
        *(_long_header, _entries, _entries, _archive_table, _array, _array, _array_bomb, _other_file),
    )
    return rng.choice(makers)(rng, bases)


def _archive(pickled: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("m/data.pkl", pickled)
        archive.writestr("m/byteorder", "little")
        archive.writestr("m/data/0", bytes(400))
    return stream.getvalue()


def _in_a_file(rng: random.Random, pickled: bytes) -> tuple[bytes, str]:
    return (pickled if rng.random() < 0.4 else _archive(pickled)), rng.choice((".pt", ".pth", ".bin", ".pkl"))


def _call(rng: random.Random, _: list[Path]) -> tuple[bytes, str]:
    stream = io.BytesIO()
    _Pickler(stream, rng.choice((0, 1, 2, 4))).dump({"weight": _Call(*rng.choice(_PAYLOADS)), ESCAPES: 3})
    return _in_a_file(rng, stream.getvalue())


def _opcodes(rng: random.Random, _: list[Path]) -> tuple[bytes, str]:
    """Instructions in no sensible order, some of them very often."""
    parts = [b"\x80\x02"]
    for _each in range(rng.choice((5, 30, 300))):
        opcode = rng.choice(pickletools.opcodes)
        if opcode.name in ("STOP", "FRAME"):
            continue
        parts.append(
            (opcode.code.encode("latin-1") + _argument(rng, opcode)) * rng.choice((1, 1, 1, 2, 2000))
        )
    return _in_a_file(rng, b"".join(parts) + b".")


def _argument(rng: random.Random, opcode: pickletools.OpcodeInfo) -> bytes:
    if opcode.arg is None:
        return b""
    if opcode.name in ("GLOBAL", "INST"):
        module, name, _ = rng.choice(_PAYLOADS)
        return f"{module}\n{name}\n".encode()
    if opcode.arg.n >= 0:
        return (
            rng.choice((b"\0", b"\1", b"\xff")) * opcode.arg.n if rng.random() < 0.3 else bytes(opcode.arg.n)
        )
    if opcode.arg.n == pickletools.UP_TO_NEWLINE:
        return rng.choice((b"1\n", b"0\n", b"'os'\n", b"9" * 5000 + b"\n", b"\n", b"1e999\n", b"01\n"))
    width = {pickletools.TAKEN_FROM_ARGUMENT1: "<B", pickletools.TAKEN_FROM_ARGUMENT8U: "<Q"}
    packed = width.get(opcode.arg.n, "<I")
    if rng.random() < 0.2:
        return struct.pack(packed, rng.choice((2**31 - 1, 2**32 - 1, 255)) % 256 ** struct.calcsize(packed))
    return struct.pack(packed, 5) + b"hello"


def _changed_pickle(rng: random.Random, bases: list[Path]) -> tuple[bytes, str]:
    """A file of torch's whose pickle alone is changed."""
    (base,) = [each for each in bases if each.name == "weights.pt"]
    stream = io.BytesIO()
    with zipfile.ZipFile(base) as source, zipfile.ZipFile(stream, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            archive.writestr(name, changed_bytes(rng, content) if name.endswith("data.pkl") else content)
    return stream.getvalue(), ".pt"


def _safetensors(header: bytes, body: bytes, length: int | None = None) -> tuple[bytes, str]:
    return struct.pack("<Q", len(header) if length is None else length) + header + body, ".safetensors"


def _header(rng: random.Random, bases: list[Path]) -> tuple[bytes, str]:
    (base,) = [each for each in bases if each.name == "weights.safetensors"]
    content = base.read_bytes()
    end = 8 + struct.unpack("<Q", content[:8])[0]
    return _safetensors(changed_json(rng, content[8:end]), content[end:])


def _sizes(rng: random.Random, _: list[Path]) -> tuple[bytes, str]:
    """Shapes and offsets that don't go together, or only as numbers that overflow."""
    size = rng.choice((2**31, 2**40, 2**62, 0, 2**64))
    entry = {
        "dtype": rng.choice(("F32", "F64", "I64", "BOOL", "F8_E4M3", "X")),
        "shape": rng.choice(([size], [size, 4], [1] * 1000, [0, size], [-1, -4], [2, 2])),
        "data_offsets": rng.choice(([0, 16], [0, size], [16, 0], [-8, 8], [0], [size, size + 16])),
    }
    names = ["0.weight", ESCAPES, "x" * 10_000][: rng.choice((1, 3))]
    return _safetensors(json.dumps(dict.fromkeys(names, entry)).encode(), bytes(16))


def _long_header(rng: random.Random, _: list[Path]) -> tuple[bytes, str]:
    match rng.randrange(4):
        case 0:
            return _safetensors(b"{}", b"", rng.choice(WHOLE_NUMBERS) % 2**64)
        case 1:
            return _safetensors(b"{" + b" " * 40_000_000 + b"}", b"")
        case 2:
            return _safetensors(b'{"a":' + b"[" * 200_000, b"")
        case _:
            entry = b'"%d":{"dtype":"F32","shape":[],"data_offsets":[0,4]}'
            return _safetensors(b"{" + b",".join(entry % n for n in range(150_000)) + b"}", bytes(4))


def _entries(rng: random.Random, _: list[Path]) -> tuple[bytes, str]:
    """Archives with odd entries: bombs, repeated names, names that leave the folder, many of them."""
    stream = io.BytesIO()
    pickled = pickle.dumps({"weight": 3}, 2)
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(stream, "w", method) as archive:
        kind = rng.randrange(5)
        archive.writestr(
            rng.choice(("m/data.pkl", "../data.pkl", "/data.pkl", "data.pkl", "m\\data.pkl")), pickled
        )
        if kind == 0:
            with archive.open("m/data/0", "w") as entry:
                for _each in range(200):
                    entry.write(bytes(2**20))
        elif kind == 1:
            for number in range(20_000):
                archive.writestr(zipfile.ZipInfo(f"m/data/{number}"), b"")
        elif kind == 2:
            archive.writestr("../" * 30 + CANARY, b"x")
        elif kind == 3:
            archive.writestr(ESCAPES, b"x")
        else:
            archive.writestr("weight.npy", b"\x93NUMPY" + rng.randbytes(200))
    return stream.getvalue(), rng.choice((".pt", ".npz"))


def _archive_table(rng: random.Random, bases: list[Path]) -> tuple[bytes, str]:
    """A number in an archive's table of contents is replaced."""
    base = rng.choice([each for each in bases if each.name in ("weights.pt", "weights.npz")])
    content = bytearray(base.read_bytes())
    place = content.rfind(rng.choice((b"PK\x01\x02", b"PK\x05\x06"))) + rng.randrange(4, 46)
    number = struct.pack("<I", rng.choice(WHOLE_NUMBERS) % 2**32)
    content[place : place + 4] = number
    return bytes(content), base.suffix


def _array(rng: random.Random, _: list[Path]) -> tuple[bytes, str]:
    """Arrays whose headers claim odd types, shapes and sizes."""
    stream = io.BytesIO()
    header = {
        "descr": rng.choice(("<f4", "|O", "<U1000000000", "V8", "<M8[s]", [("a", "<f4")], "x", ">f4", "|S0")),
        "fortran_order": rng.choice((True, False, 3)),
        "shape": rng.choice(((2, 2), (2**40,), (-1,), (2**62, 4), (0, 2**62), (1,) * 100, "x", (2**20,))),
    }
    text = repr(header).encode() + b"\n"
    text = rng.choice((text, text, b"(" * 5000, b"{'descr': __import__('os').mkdir('code-was-run')}\n"))
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        body = pickle.dumps([1]) if header["descr"] == "|O" else bytes(16)
        archive.writestr("arr_0.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body)
    return stream.getvalue(), ".npz"


def _array_bomb(rng: random.Random, _: list[Path]) -> tuple[bytes, str]:
    stream = io.BytesIO()
    count = rng.choice((1, 5))
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(count):
            with archive.open(f"arr_{number}.npy", "w") as entry:
                shape = (rng.choice((1, 4)) * 10_000_000,)
                np.lib.format.write_array_header_1_0(
                    entry, {"descr": "<f4", "fortran_order": False, "shape": shape}
                )
                for _each in range(40):
                    entry.write(bytes(1_000_000))
    return stream.getvalue(), ".npz"


def _other_file(rng: random.Random, _: list[Path]) -> tuple[bytes, str]:
    content = rng.choice(
        (
            b"",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
            b"\x89HDF\r\n\x1a\n" + bytes(100),
            b"PK\x05\x06" + bytes(18),
            b"PK\x03\x04",
            b"\x1f\x8b" + zlib.compress(bytes(10**7))[2:],
            b"<!DOCTYPE html>",
            rng.randbytes(1000),
            ESCAPES.encode() * 20,
        )
    )
    return content, rng.choice((".pt", ".safetensors", ".npz", ".bin"))
