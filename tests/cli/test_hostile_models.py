"""Model files that a user or a stranger got wrong, as the suspect and as the reference, of a scan and of a repair."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import planted
from fedmend.checkpoints import save_state

Refused = Callable[..., None]

ROLES = pytest.mark.parametrize("role", ["suspect", "reference", "repair"])


def spoiled(world: planted.World, path: Path, value: float) -> str:
    state = {name: entry.clone() for name, entry in world.clean.state_dict().items()}
    state["5.weight"][0, 0] = value
    save_state(state, path)
    return str(path)


def given(files: Any, role: str, path: Path | str, out: Path) -> list[str]:
    if role == "reference":
        return list(files.scan(files.model("clean"), out, reference=str(path)))
    return list((files.repair if role == "repair" else files.scan)(str(path), out))


@ROLES
@pytest.mark.parametrize(
    ("kept", "message"),
    [(0, "is empty"), (5, "not an intact"), (300, "not an intact"), (-1, "not an intact")],
)
def test_truncated_and_empty_files(
    refused: Refused, files: Any, tmp_path: Path, role: str, kept: int, message: str
) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(Path(files.model("clean")).read_bytes()[:kept])
    refused(given(files, role, path, tmp_path / "out"), message)


@ROLES
def test_a_truncated_torch_file(
    refused: Refused, files: Any, world: planted.World, tmp_path: Path, role: str
) -> None:
    path = tmp_path / "cut.pt"
    torch.save(world.clean.state_dict(), path)
    path.write_bytes(path.read_bytes()[:2000])
    refused(given(files, role, path, tmp_path / "out"), "damaged")


@ROLES
def test_no_such_file(refused: Refused, files: Any, tmp_path: Path, role: str) -> None:
    refused(given(files, role, tmp_path / "no.safetensors", tmp_path / "out"), "there is no file")


@ROLES
def test_another_architecture(refused: Refused, files: Any, tmp_path: Path, role: str) -> None:
    path = tmp_path / "other.safetensors"
    save_state(torch.nn.Linear(3, 4).state_dict(), path)
    refused(given(files, role, path, tmp_path / "out"), "another architecture: it lacks")


@ROLES
def test_another_number_of_classes(refused: Refused, files: Any, tmp_path: Path, role: str) -> None:
    path = tmp_path / "five.safetensors"
    save_state(planted.small(5, 1, (12, 12)).state_dict(), path)
    refused(given(files, role, path, tmp_path / "out"), "has 5 classes, the data has 4")


@ROLES
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers(
    refused: Refused, files: Any, world: planted.World, tmp_path: Path, role: str, value: float
) -> None:
    path = spoiled(world, tmp_path / "bad.safetensors", value)
    refused(given(files, role, path, tmp_path / "out"), "NaN or infinite values in '5.weight'")


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.target}",)


@ROLES
@pytest.mark.parametrize("form", ["torch", "legacy", "pickle"])
def test_a_pickle_that_would_run_code(
    refused: Refused, files: Any, tmp_path: Path, role: str, form: str
) -> None:
    path, touched = tmp_path / "evil.pt", tmp_path / "ran"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": Hostile(touched)}))
    else:
        torch.save({"state_dict": Hostile(touched)}, path, _use_new_zipfile_serialization=form == "torch")
    refused(given(files, role, path, tmp_path / "out"), "nothing was run")
    assert not touched.exists()
    pickle.loads(pickle.dumps(Hostile(touched)))
    assert touched.exists()  # so it would have run


@ROLES
@pytest.mark.parametrize(
    "header",
    [
        2**60,
        {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]}},
    ],
)
def test_a_safetensors_header_that_lies(
    refused: Refused, files: Any, tmp_path: Path, role: str, header: Any
) -> None:
    path = tmp_path / "lies.safetensors"
    text = b"{}" if isinstance(header, int) else json.dumps(header).encode()
    length = header if isinstance(header, int) else len(text)
    path.write_bytes(struct.pack("<Q", length) + text + bytes(16))
    refused(given(files, role, path, tmp_path / "out"), "not an intact safetensors file")
