"""Files that are damaged or not what they claim; hostile ones are in test_reading_hostile.py."""

import io
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_nets import net, refused
from torch import nn

from fedmend.checkpoints import read_state, save_state
from fedmend.errors import CheckpointError


def with_header(header: Any, data: bytes = b"\0" * 16) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_tied_and_strided_tensors(tmp_path: Path) -> None:
    base = torch.arange(6.0).view(2, 3)
    save_state({"a": base, "b": base, "t": base.T}, tmp_path / "a.safetensors")
    torch.save({"a": base, "b": base, "t": base.T}, tmp_path / "a.pt")
    for name in ("a.safetensors", "a.pt"):
        state = read_state(tmp_path / name)
        assert torch.equal(state["t"], base.T)
        assert state["t"].is_contiguous()
        state["a"].zero_()
        assert torch.equal(state["b"], base)


def test_what_was_read_does_not_hang_on_the_file(tmp_path: Path) -> None:
    for name in ("a.pt", "a.safetensors"):
        path = tmp_path / name
        (torch.save if name == "a.pt" else save_state)({"a": torch.ones(1000)}, path)
        state = read_state(path)
        with path.open("r+b") as file:
            file.write(b"\xff" * path.stat().st_size)
        assert torch.equal(state["a"], torch.ones(1000))


def test_parameters_are_read_as_tensors(tmp_path: Path) -> None:
    torch.save({"a": nn.Parameter(torch.ones(2))}, tmp_path / "a.pt")
    assert not read_state(tmp_path / "a.pt")["a"].requires_grad


def test_no_file_folder_empty(tmp_path: Path) -> None:
    refused(tmp_path / "none.pt", "there is no file")
    refused(tmp_path, "is not a file")
    (tmp_path / "empty.pt").touch()
    refused(tmp_path / "empty.pt", "is empty")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    refused(tmp_path / "pipe.pt", "not a file but a pipe or a device")
    refused(Path("/dev/zero"), "not a file but a pipe or a device")


def test_huge_file(tmp_path: Path) -> None:
    with (tmp_path / "m.safetensors").open("wb") as file:
        file.truncate(2**40)
    refused(tmp_path / "m.safetensors", "up to")


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors", "m-legacy.pt"])
def test_truncated_at_any_place(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".pt"):
        torch.save(net().state_dict(), path, _use_new_zipfile_serialization="legacy" not in name)
    else:
        save_state(net().state_dict(), path)
    whole = path.read_bytes()
    for part in range(1, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:part])
        refused(path, "damaged|intact")


@pytest.mark.parametrize("content", [b"hello world", b"\0" * 100, b"PK\x03\x04", b"x"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors", ""])
def test_not_a_model_file(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"m.{suffix}"
    path.write_bytes(content)
    refused(path, "damaged|intact")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack("<Q", 2**63) + b"{}", "claims 9223372036854775808 bytes"),
        (struct.pack("<Q", 1000) + b"{}", "header is cut short"),
        (
            with_header({"a": {"dtype": "F32", "shape": [400], "data_offsets": [0, 16]}}),
            "larger than its part",
        ),
        (
            with_header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1600]}}),
            "smaller than its part",
        ),
        (with_header({"a": {"dtype": "F32", "shape": [400], "data_offsets": [0, 1600]}}), "take 1600 bytes"),
        (
            with_header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}),
            "ends before it begins",
        ),
        (
            with_header({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]}}),
            "more elements",
        ),
        (
            with_header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [-16, 16]}}),
            "ends before it begins",
        ),
        (
            with_header({"a": {"dtype": "F32", "shape": [0, 2**62, 4], "data_offsets": [0, 0]}}, b""),
            "no number",
        ),
        (with_header({"a": {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}}), "no number"),
        (with_header({"a": {"dtype": "F32", "shape": [True, 4], "data_offsets": [0, 16]}}), "no number"),
        (
            with_header({"a": {"dtype": "F32", "shape": [1] * 65, "data_offsets": [0, 4]}}, b"0000"),
            "dimensions",
        ),
        (with_header({"a": {"dtype": "F32", "data_offsets": [0, 16]}}), "a tensor is of type 'F32'"),
        (with_header({"a": {"dtype": "F32", "shape": [4]}}), "a tensor has no place"),
        (with_header({"a": 5}), "a tensor has no place"),
        (with_header({"a": {"dtype": "X9", "shape": [4], "data_offsets": [0, 16]}}), "of type 'X9'"),
        (with_header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}), "the file has 16"),
        (with_header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}), "leave gaps"),
        (with_header({"a": {"dtype": "C64", "shape": [2], "data_offsets": [0, 16]}}), "a tensor of type C64"),
        (
            with_header(
                b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
                b'"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}'
            ),
            "occurs twice",
        ),
        (
            with_header({n: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for n in "ab"}),
            "overlap",
        ),
        (with_header(b"{" + b'"a":{' * 100_000), "nested too deeply"),
        (
            with_header({"a" * 501: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}),
            "longer than 500",
        ),
        (with_header({}, b""), "no tensors"),
        (with_header(b"[]"), "no table"),
        (with_header(b'{"a": 1' + b"0" * 5000 + b"}"), "damaged|intact"),
    ],
)
def test_safetensors_headers_that_lie(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    refused(tmp_path / "m.safetensors", message)


def test_bytes_flipped_anywhere_never_escape_the_error_tree(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(50)}, buffer)
    save_state({"a": torch.zeros(50)}, tmp_path / "whole.safetensors")
    generator = torch.Generator().manual_seed(0)
    messages = []
    for whole in (buffer.getvalue(), (tmp_path / "whole.safetensors").read_bytes()):
        for _ in range(150):
            content = bytearray(whole)
            place = int(torch.randint(len(content), (), generator=generator))
            content[place] ^= 1 << int(torch.randint(8, (), generator=generator))
            (tmp_path / "m").write_bytes(content)
            try:
                read_state(tmp_path / "m")
            except CheckpointError as error:
                messages.append(str(error))
    assert messages
    assert not any("\n" in message for message in messages)
