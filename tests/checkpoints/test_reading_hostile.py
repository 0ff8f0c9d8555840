"""Files that would run code or fill the memory."""

import os
import pickle
import struct
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_nets import net, refused

from fedmend.checkpoints import read_state
from fedmend.errors import CheckpointError


def rezip(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, change(name, data))


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("run",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("form", ["pickle", "zip", "legacy"])
def test_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, protocol: int) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "m.pt"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"a": Evil()}, protocol))
    else:
        new = form == "zip"
        torch.save({"a": Evil()}, path, _use_new_zipfile_serialization=new, pickle_protocol=max(protocol, 2))
    refused(path, r"nothing was run.*\.safetensors")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("new", [True, False])
def test_code_beside_intact_weights_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": net().state_dict(), "note": Evil()}
    torch.save(content, tmp_path / "m.pt", _use_new_zipfile_serialization=new)
    refused(tmp_path / "m.pt", r"Python code \((posix|nt)\.mkdir\).*nothing was run.*attack")
    assert not (tmp_path / "run").exists()


def test_zip_bomb(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"a": torch.zeros(1_000_000)}, path)
    rezip(path, lambda name, data: data, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 50_000
    refused(path, "compressed or overlapping")


def test_overlapping_entries(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data/0", bytes(10_000))
        first = archive.infolist()[0]
        for number in range(1, 20):
            entry = zipfile.ZipInfo(f"m/data/{number}")
            entry.header_offset, entry.CRC = first.header_offset, first.CRC
            entry.file_size = entry.compress_size = first.file_size
            archive.filelist.append(entry)
        archive._didModify = True  # type: ignore[attr-defined]
    refused(path, "compressed or overlapping")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_named_twice(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"a": torch.zeros(3)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(archive.namelist()[0], b"")
    refused(path, "names an entry twice")


@pytest.mark.parametrize("claimed", [4_000, 2**29])
def test_storage_larger_than_its_entry(tmp_path: Path, claimed: int) -> None:
    path = tmp_path / "m.pt"
    torch.save({"a": torch.zeros(400)}, path)
    before, after = b"M\x90\x01", b"J" + struct.pack("<i", claimed)
    rezip(path, lambda name, data: data.replace(before, after) if name.endswith("data.pkl") else data)
    refused(path, "larger than its part of the file")


def test_expanded_tensors(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path)
    assert path.stat().st_size < 5_000
    with pytest.raises(CheckpointError, match=r"claims the shape \(1000000, 1000000\)"):
        read_state(path)
    shared = torch.zeros(10_000)
    torch.save({f"a{number}": shared for number in range(100)}, path)
    with pytest.raises(CheckpointError, match="more than the file holds"):
        read_state(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.eye(3).to_sparse(), "a tensor sparse"),
        (torch.empty(3, device="meta"), "meta device"),
        (torch.zeros(3, dtype=torch.complex64), "complex64"),
        (torch.zeros(3, dtype=torch.uint16), "uint16"),
        (torch.zeros(3, dtype=torch.float8_e4m3fn), "float8_e4m3fn"),
        (torch.ones(3, dtype=torch.complex64).conj().imag, "stored negated"),
        (np.ones(3, "c8"), "complex64"),
        (np.ones(3, ">f4"), "an array of NumPy"),
        ("text", "it lacks '3.bias'"),
    ],
)
def test_values_that_are_no_plain_tensors(tmp_path: Path, value: object, message: str) -> None:
    torch.save(net().state_dict() | {"3.bias": value}, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "a single tensor"),
        ([1, 2], "holds a value of type list"),
        ("text", "holds a value of type str"),
        ({}, "no tensors"),
        ({"state_dict": {}}, "no tensors"),
        ({"epoch": 3, "args": Namespace(lr=1)}, r"Python objects \(argparse\.Namespace\) and no tensors"),
        (
            {"a": torch.zeros(1), "b": {"c": torch.zeros(1)}},
            "none of its state dicts, '', 'b', has the names",
        ),
        ({3: torch.zeros(1)}, "lacks '0.weight'"),
    ],
)
def test_contents_that_are_no_state_dict(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": {"w": torch.ones(1)}, "b": {"w": torch.ones(1)}}, "several state dicts: 'a', 'b'; choose"),
        ([torch.ones(1)], "tensors without names"),
        ({"a": torch.zeros(1, dtype=torch.complex64)}, "'a' is a tensor of type torch.complex64"),
        ({"a": {"b.c": torch.ones(1)}, "a.b": {"c": torch.ones(1)}}, "two tensors called 'a.b.c'"),
    ],
)
def test_what_cannot_be_read_without_a_model(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=message):
        read_state(tmp_path / "m.pt")


def test_names_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    torch.save({"\x1b[2J\u202e\n" + "x" * 10_000: 3}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError) as caught:
        read_state(tmp_path / "m.pt")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
