"""Small files that would take much memory or time, and large ones of which nothing is needed."""

import io
import json
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_nets import net, refused

from fedmend.checkpoints import (
    file_contents,
    load_checkpoint,
    pickle_parsing,
    reading,
    save_state,
    stored_tensors,
    torch_files,
)
from fedmend.errors import CheckpointError


class Calls:
    """Pickled as a call of a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def archive(path: Path, pickled: bytes) -> Path:
    """A file like those of ``torch.save``, with this pickle."""
    with zipfile.ZipFile(path, "w") as written:
        written.writestr("m/data.pkl", pickled)
        written.writestr("m/byteorder", "little")
    return path


def laughs(depth: int) -> list[Any]:
    """Lists of ten times the same list: 10 ** depth values."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value] * 10
    return value


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Fails a test that allocates more than 30 MB or takes more than 20 seconds."""
    tracemalloc.start()
    begin = time.process_time()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 3e7
        assert time.process_time() - begin < 20
    finally:
        tracemalloc.stop()


COPIES = b"".join(b"h\x00h\x01R0" for _ in range(5_000))  # a call with the same list, again and again
PAIRS = b"](" + b"](K\x01K\x02e" * 2_000 + b"e"

BOMBS = {
    "bytearray": pickle.dumps({"w": Calls(bytearray, 6 * 2**30)}, 2),
    "range": pickle.dumps({"w": Calls(list, range(2**40))}, 2),
    "power": pickle.dumps({"w": Calls(pow, 10, 10**9)}, 2),
    "codecs": b"\x80\x02c_codecs\nencode\nX\x01\0\0\0a\x87R.",
    "shared lists": pickle.dumps(laughs(30), 2),
    "deep": b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 20_000 + b".",
    "long frame": b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f" + b"}.",
    "long text": b"\x80\x02X\xff\xff\xff\xff.",
    "long number": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "decimal number": b"I" + b"9" * 20_000 + b"\n.",
    "far memo": b"\x80\x02}r\xff\xff\xff\xff.",
    "copies": b"\x80\x02ccollections\nOrderedDict\nq\x00" + PAIRS + b"\x85q\x01" + COPIES + b"0.",
    "empty": b"",
    "marks": b"\x80\x02" + b"(" * 20_000 + b".",
    "no end": b"\x80\x02" + b"N0" * 50_000,
}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("form", ["zip", "pickle"])
@pytest.mark.parametrize("name", BOMBS)
def test_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: str) -> None:
    monkeypatch.setattr(pickle_parsing, "MOST_INSTRUCTIONS", 50_000)
    monkeypatch.setattr(file_contents, "_MOST_CONTAINERS", 10_000)
    path = tmp_path / "m.pt"
    if form == "zip":
        archive(path, BOMBS[name])
    else:
        path.write_bytes(BOMBS[name] or b"\0")
    refused(path, "no tensors|damaged|more values than any|holds a value of type")


@pytest.mark.usefixtures("little_memory")
def test_sparse_files_of_another_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_tensors, "read_into", lambda *_: pytest.fail("values are read before names"))
    header = json.dumps(
        {"w": {"dtype": "F32", "shape": [3 * 2**28], "data_offsets": [0, 3 * 2**30]}}
    ).encode()
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 3 * 2**30)
    refused(path, "another architecture: it lacks '0.weight'")
    names = {
        name: (torch.zeros(1).expand(2**28) if "0.w" in name else v) for name, v in net().state_dict().items()
    }
    torch.save(names, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", r"'0.weight' is \(268435456,\)")


@pytest.mark.usefixtures("little_memory")
def test_compressed_arrays(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written, written.open("arr_0.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(
            entry, {"descr": "<f4", "fortran_order": False, "shape": (10_000_000,)}
        )
        for _ in range(40):
            entry.write(bytes(1_000_000))
    assert path.stat().st_size < 500_000
    refused(path, "another architecture: it holds 1 arrays")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written, written.open("arr_0.npy", "w") as entry:
        entry.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", 40_000_000))  # a header of that length
        for _ in range(40):
            entry.write(b" " * 1_000_000)
    refused(path, "damaged")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_arrays_compressed_otherwise(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "m.npz", "w", method) as written:
        written.writestr("arr_0.npy", b"")
    refused(tmp_path / "m.npz", "compressed as numpy")


@pytest.mark.usefixtures("little_memory")
def test_large_tables_of_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.pt"
    torch.save(net().state_dict(), path)
    monkeypatch.setattr(reading, "_LARGEST_DIRECTORY", 400)
    refused(path, "table of contents is too large")
    monkeypatch.undo()
    monkeypatch.setattr(torch_files, "_LARGEST_PICKLE", 500)
    refused(path, "bytes of pickled data beside the tensors, at most 500")


def test_tensors_spread_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_tensors, "_WASTE_BYTES", 1_000)
    spread = torch.zeros(3, 1_000)[:, 0]
    torch.save(net().state_dict() | {"3.bias": spread}, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", "spread over far more of the file than it fills")


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "legacy.pt", "m.npz"])
def test_files_that_are_cut_short_while_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path, model = tmp_path / name, net()
    state = model.state_dict()
    if name == "m.npz":
        np.savez(path, *(value.numpy() for value in state.values()))
    elif name == "m.safetensors":
        save_state(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=name == "m.pt")
    real = reading._contents

    def cut(path: Path, file: Any, size: int) -> Any:
        contents = real(path, file, size)
        with path.open("r+b") as other:
            other.truncate(10)
        file.seek(0, io.SEEK_END)  # what is buffered is gone
        return contents

    monkeypatch.setattr(reading, "_contents", cut)
    with pytest.raises(CheckpointError, match=r"cut short|damaged"):
        load_checkpoint(path, net())
