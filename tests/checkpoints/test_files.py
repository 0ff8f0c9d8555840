import io
import json
import os
import pickle
import struct
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedmend.checkpoints import (
    load_checkpoint,
    load_into,
    read_state,
    read_trigger,
    save_state,
    save_trigger,
)
from fedmend.errors import CheckpointError, OutputError
from fedmend.triggers import Patch


def net(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, classes))


def same(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


def refused(path: Path, message: str) -> None:
    """Reading fails with one clear line, and a model is left as it was."""
    model, twin = net(), net()
    twin.load_state_dict(model.state_dict())
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path, model)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))
    assert str(path) in str(caught.value)
    assert same(model, twin)


def rezip(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, change(name, data))


def with_header(header: Any, data: bytes = b"\0" * 16) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


# Round trips


@pytest.mark.parametrize("form", ["safetensors", "torch", "legacy", "no-extension"])
def test_round_trip(tmp_path: Path, form: str) -> None:
    model, other = net(), net()
    model[1].num_batches_tracked += 5
    path = tmp_path / {"safetensors": "m.safetensors", "no-extension": "model"}.get(form, "m.pt")
    if form in ("torch", "legacy"):
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=form == "torch")
    else:
        save_state(model.state_dict(), path)
    load_checkpoint(str(path), other)
    assert same(model, other)
    assert other[1].num_batches_tracked == 5


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_training_checkpoints_are_unwrapped(tmp_path: Path, key: str, prefix: str) -> None:
    model, other = net(), net()
    state = OrderedDict((prefix + name, value) for name, value in model.state_dict().items())
    torch.save({"epoch": 3, key: state, "optimizer": {"lr": 0.1}}, tmp_path / "m.pt")
    load_checkpoint(tmp_path / "m.pt", other)
    assert same(model, other)


def test_a_prefix_that_belongs_to_the_model_is_put_back(tmp_path: Path) -> None:
    first, second = nn.ModuleDict({"module": net()}), nn.ModuleDict({"module": net()})
    save_state(first.state_dict(), tmp_path / "m.safetensors")
    load_checkpoint(tmp_path / "m.safetensors", second)
    assert same(first, second)


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


def test_floats_take_the_models_type() -> None:
    model = net()
    load_into(model, {n: v.double() if v.is_floating_point() else v for n, v in net().state_dict().items()})
    assert model[0].weight.dtype == torch.float32


def test_saving_refuses_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_state({"a": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match=r"'a'.*complex64"):
        save_state({"a": torch.ones(1, dtype=torch.complex64)}, path)
    with pytest.raises(CheckpointError, match="a str"):
        save_state({"a": "text"}, path)  # type: ignore[dict-item]
    with pytest.raises(OutputError):
        save_state({"a": torch.ones(1)}, path / "below-a-file")
    assert read_state(path)["a"].item() == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.safetensors"]


def test_trigger_round_trip(tmp_path: Path) -> None:
    trigger = Patch(torch.rand(1, 4, 4), torch.rand(3, 4, 4))
    save_trigger(trigger, tmp_path / "t.safetensors")
    back = read_trigger(tmp_path / "t.safetensors")
    assert torch.equal(back.mask, trigger.mask)
    assert torch.equal(back.pattern, trigger.pattern)


@pytest.mark.parametrize(
    "state",
    [
        {"mask": torch.ones(1, 2, 2)},
        {"mask": torch.ones(1, 2, 2), "pattern": torch.full((1, 2, 2), 2.0)},
        {"mask": torch.ones(1, 2, 2), "pattern": torch.full((1, 2, 2), float("nan"))},
        {"mask": torch.ones(2, 2), "pattern": torch.ones(1, 2, 2)},
    ],
)
def test_triggers_that_are_none(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_state(state, tmp_path / "t.safetensors")
    with pytest.raises(CheckpointError, match=r"t\.safetensors holds no"):
        read_trigger(tmp_path / "t.safetensors")


# Damaged files


def test_no_file_folder_empty(tmp_path: Path) -> None:
    refused(tmp_path / "none.pt", "there is no file")
    refused(tmp_path, "is not a file")
    (tmp_path / "empty.pt").touch()
    refused(tmp_path / "empty.pt", "is empty")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    refused(tmp_path / "pipe.pt", "is not a file")


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


@pytest.mark.parametrize(
    "content", [b"hello world", b"<html>not found</html>", b"\0" * 100, b"PK\x03\x04", b"x"]
)
@pytest.mark.parametrize("suffix", ["pt", "safetensors", ""])
def test_not_a_model_file(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"m.{suffix}"
    path.write_bytes(content)
    refused(path, "damaged|intact")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack("<Q", 2**63) + b"{}", "claims 9223372036854775808 bytes"),
        (struct.pack("<Q", 1000) + b"{}", "intact"),
        (with_header({"a": {"dtype": "F32", "shape": [400], "data_offsets": [0, 16]}}), "intact"),
        (with_header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1600]}}), "intact"),
        (with_header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}), "intact"),
        (with_header({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]}}), "intact"),
        (with_header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [-16, 16]}}), "intact"),
        (with_header({"a": {"dtype": "F32", "shape": [0, 2**62, 4], "data_offsets": [0, 0]}}, b""), "m"),
        (with_header({"a": {"dtype": "X9", "shape": [4], "data_offsets": [0, 16]}}), "intact"),
        (with_header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}), "intact"),
        (
            with_header(
                b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
                b'"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}'
            ),
            "occurs twice",
        ),
        (
            with_header({n: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for n in "ab"}),
            "intact",
        ),
        (with_header(b"{" + b'"a":{' * 100_000), "intact"),
        (with_header({}, b""), "no tensors"),
        (with_header(b"[]"), "intact"),
    ],
)
def test_safetensors_headers_that_lie(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    refused(tmp_path / "m.safetensors", message)


# Files that would run code or fill the memory


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


def test_whole_models_and_python_objects(tmp_path: Path) -> None:
    for content in (net(), {"state_dict": net().state_dict(), "args": Namespace(lr=1)}):
        torch.save(content, tmp_path / "m.pt")
        refused(tmp_path / "m.pt", "nothing was run")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("m/constants.pkl", b"")
        archive.writestr("m/data.pkl", b"")
    refused(tmp_path / "m.pt", "TorchScript")


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
    refused(path, "damaged|claims the shape")


def test_expanded_tensors(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path)
    assert path.stat().st_size < 5_000
    refused(path, r"claims the shape \(1000000, 1000000\)")
    shared = torch.zeros(10_000)
    torch.save({f"a{number}": shared for number in range(100)}, path)
    refused(path, "more than the file holds")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.eye(3).to_sparse(), "sparse_coo"),
        (torch.empty(3, device="meta"), "meta"),
        (torch.zeros(3, dtype=torch.complex64), "complex64"),
        ("text", "holds a str at 'a'"),
        (7, "holds a int at 'a'"),
        ([torch.zeros(3)], "holds a list"),
    ],
)
def test_values_that_are_no_plain_tensors(tmp_path: Path, value: object, message: str) -> None:
    torch.save({"a": value}, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", message)


@pytest.mark.filterwarnings("ignore")
def test_quantised_tensors(tmp_path: Path) -> None:
    torch.save({"a": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", "qint8|nothing was run")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "holds a tensor"),
        ([1, 2], "holds a list"),
        ({}, "no tensors"),
        ({"state_dict": {}}, "no tensors"),
        ({3: torch.zeros(1)}, "a int for a name"),
        ({"model": {"a": torch.zeros(1)}, "state_dict": {"a": torch.zeros(1)}}, "2 state dicts"),
        ({"weights": {"a": torch.zeros(1)}}, "holds a dict at 'weights'"),
    ],
)
def test_contents_that_are_no_state_dict(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", message)


def test_names_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    torch.save({"\x1b[2J\u202e\n" + "x" * 10_000: 3}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError) as caught:
        read_state(tmp_path / "m.pt")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


# Checks against the model


def test_another_number_of_classes(tmp_path: Path) -> None:
    save_state(net(43).state_dict(), tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "checkpoint has 43 classes, the data has 3")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("0.weight"), "lacks '0.weight'"),
        (lambda s: s.update(extra=torch.zeros(1)), "it has 'extra'"),
        (lambda s: s.update({"0.weight": torch.zeros(2, 3, 3, 3)}), r"'0.weight' is \(2, 3, 3, 3\)"),
        (lambda s: s.update({"3.weight": torch.zeros(5, 9)}), "'3.weight'"),
        (lambda s: s.update({"0.bias": torch.zeros(2, dtype=torch.int64)}), "'0.bias' as torch.int64"),
        (lambda s: s["0.bias"].fill_(float("nan")), "NaN or infinite values in '0.bias'"),
        (lambda s: s["1.running_var"].fill_(float("inf")), "NaN or infinite values in '1.running_var'"),
        (lambda s: s["1.running_var"].fill_(-1), "negative variances"),
        (lambda s: s.update({"0.bias": torch.full((2,), 1e300, dtype=torch.float64)}), "infinite"),
    ],
)
def test_what_does_not_fit_the_model(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    state = dict(net().state_dict())
    change(state)
    save_state(state, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", message)


def test_models_with_state_outside_of_tensors() -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> Any:
            return {"a": 1}

    with pytest.raises(CheckpointError, match="_extra_state"):
        load_into(Extra(1, 1), {"weight": torch.zeros(1, 1), "bias": torch.zeros(1)})


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
