"""Files of other kinds are called what they are."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_nets import net, refused

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER, "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html>\n<html>", "web page"),
        (b"\n  <HTML><body>404", "web page"),
        (b'<?xml version="1.0"?><Error>', "web page"),
        (gzip.compress(b"weights", mtime=0), "gzip; unpack"),
        (b"BZh91AY", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "zstd"),
        (b"7z\xbc\xaf\x27\x1c", "7z archive"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5.*Keras"),
        (b"\x08\x07\x12\x07pytorch\x1a\x032.1", "ONNX"),
        (b"\x1c\0\0\0TFL3" + bytes(20), "TensorFlow Lite"),
        (b"GGUF\3\0\0\0", "GGUF"),
        (
            b'{\n  "metadata": {"total_size": 9}, "weight_map": {"0.bias": "model-00001-of-00002.safetensors"}}',
            "index of a checkpoint in several files; join",
        ),
        (b"PK\x05\x06" + bytes(18), "zip archive without weights"),
    ],
)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_by_the_first_bytes(tmp_path: Path, content: bytes, message: str, suffix: str) -> None:
    (tmp_path / f"m.{suffix}").write_bytes(content)
    refused(tmp_path / f"m.{suffix}", message)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["m/constants.pkl", "m/data.pkl"], "TorchScript"),
        (["m/version", "m/code/net.py", "m/attributes.pkl", "m/tensors/0", "m/model.json"], "TorchScript"),
        (["m/archive_format", "m/models/model.json"], "torch.export"),
        (["m/.data/extern_modules", "m/model/model.pkl"], "torch.package"),
        (["config.json", "model.weights.h5"], "Keras"),
        (["weights/best.pth", "readme.txt"], "a zip archive with a model file inside; unpack it"),
        (["a.txt"], "zip archive without weights"),
    ],
)
def test_archives_by_what_is_in_them(tmp_path: Path, names: list[str], message: str) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        for name in names:
            archive.writestr(name, b"{}")
    refused(tmp_path / "m.pt", message)


def test_tar_archives_and_single_arrays(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "m.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("model.pt"), io.BytesIO())
    refused(tmp_path / "m.tar", "tar archive; unpack")
    np.save(tmp_path / "m.npy", np.ones(3))
    refused(tmp_path / "m.npy", r"single array of NumPy.*numpy\.savez")


@pytest.mark.parametrize("new", [True, False])
def test_whole_models(tmp_path: Path, new: bool) -> None:
    torch.save({"epoch": 3, "model": net()}, tmp_path / "m.pt", _use_new_zipfile_serialization=new)
    refused(
        tmp_path / "m.pt", r"whole pickled model \(torch\.nn\..*Sequential\).*nothing was run.*state_dict\(\)"
    )


@pytest.mark.filterwarnings("ignore")
def test_quantised_weights(tmp_path: Path) -> None:
    quantised = torch.quantize_per_tensor(torch.ones(2, 1, 3, 3), 0.1, 0, torch.qint8)
    for content in (net().state_dict() | {"0.weight": quantised}, {"0._packed_params": (quantised, None)}):
        torch.save(content, tmp_path / "m.pt")
        refused(
            tmp_path / "m.pt", "'0.* is a tensor quantised; expected dense.* save the weights as they were"
        )
