"""Everything that a user or a stranger's file can get wrong: one clear line, the right exit code, nothing left."""

import errno
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import planted
from fedmend.checkpoints import save_state

Refused = Callable[..., None]

LISTEN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""A job that a shell started in the background ignores Ctrl-C, and so would the process of a test in it."""


def spoiled(world: planted.World, path: Path, value: float) -> str:
    state = {name: entry.clone() for name, entry in world.clean.state_dict().items()}
    state["5.weight"][0, 0] = value
    save_state(state, path)
    return str(path)


def saved_images(path: Path, images: Any, labels: Any, **more: Any) -> str:
    np.savez(path, images=np.asarray(images), labels=np.asarray(labels), **more)
    return str(path)


# Model files. Each is tried as the suspect and as the reference, of a scan and of a repair.

ROLES = pytest.mark.parametrize("role", ["suspect", "reference", "repair"])


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


# Images


def test_images_of_another_size(refused: Refused, files: Any, tmp_path: Path) -> None:
    images, labels = planted.draw(20, seed=0)
    data = saved_images(tmp_path / "big.npz", images.repeat(1, 1, 2, 2), labels)
    refused(files.scan(files.model("clean"), tmp_path / "out", data=data), "for other images")
    small = saved_images(tmp_path / "small.npz", images[:, :, :8, :8], labels)
    refused(
        files.scan(files.model("clean"), tmp_path / "out", data=small, model="two-conv-8-16"),
        "at least 16x16",
    )


def test_images_of_another_size_than_a_model_takes(refused: Refused, files: Any, tmp_path: Path) -> None:
    """One that isn't told the size when it is built."""
    images, labels = planted.draw(20, seed=0)
    data = saved_images(tmp_path / "small.npz", images, labels)
    refused(
        files.scan(files.model("clean"), tmp_path / "out", data=data, model="convnet"), "architecture|failed"
    )


def test_images_in_colour(refused: Refused, files: Any, tmp_path: Path) -> None:
    images, labels = planted.draw(20, seed=0)
    data = saved_images(tmp_path / "rgb.npz", images.expand(-1, 3, -1, -1), labels)
    refused(files.scan(files.model("clean"), tmp_path / "out", data=data), "for other images")


@pytest.mark.parametrize("named", [True, False])
def test_images_of_one_class(refused: Refused, files: Any, tmp_path: Path, named: bool) -> None:
    images, _ = planted.draw(20, seed=0)
    names = {"class_names": np.array(planted.NAMES)} if named else {}
    data = saved_images(tmp_path / "one.npz", images, np.zeros(20, dtype=np.int64), **names)
    for command in (files.scan, files.repair):
        refused(
            command(files.model("clean"), tmp_path / "out", data=data),
            "2 or more classes|two classes or more",
        )


def test_fewer_images_than_needed(refused: Refused, files: Any, tmp_path: Path) -> None:
    images, labels = planted.draw(8, seed=0)
    data = saved_images(tmp_path / "few.npz", images, labels)
    refused(files.scan(files.model("clean"), tmp_path / "out", data=data), "N at least 10")
    refused([*files.scan(files.model("clean"), tmp_path / "out"), "--images", "5"], "N at least 10")
    refused([*files.scan(files.model("clean"), tmp_path / "out"), "--images", "121"], "has only 120")


@pytest.mark.parametrize("label", [-1, 4])
def test_labels_out_of_range(refused: Refused, files: Any, tmp_path: Path, label: int) -> None:
    images, labels = planted.draw(20, seed=0)
    labels[7] = label
    data = saved_images(tmp_path / "labels.npz", images, labels, class_names=np.array(planted.NAMES))
    refused(files.scan(files.model("clean"), tmp_path / "out", data=data), r"labels .*must be in \[0, ")


def test_pixels_that_are_no_numbers(refused: Refused, files: Any, tmp_path: Path) -> None:
    images, labels = planted.draw(20, seed=0)
    pixels = images.numpy() / 255
    pixels[0, 0, 0, 0] = float("nan")
    data = saved_images(tmp_path / "nan.npz", pixels, labels)
    refused(files.scan(files.model("clean"), tmp_path / "out", data=data), "without NaN")


def test_a_damaged_image_file(refused: Refused, files: Any, tmp_path: Path) -> None:
    path = tmp_path / "cut.npz"
    path.write_bytes(Path(files.images).read_bytes()[:500])
    refused(files.scan(files.model("clean"), tmp_path / "out", data=str(path)), "can't read")
    refused(files.scan(files.model("clean"), tmp_path / "out", data="minst"), "did you mean mnist")
    refused(files.scan(files.model("clean"), tmp_path / "out", data=str(tmp_path / "no.npz")), "no images at")


def test_a_known_name_without_its_file(
    refused: Refused, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDMEND_DATA", str(tmp_path))
    refused(
        files.scan(files.model("clean"), tmp_path / "out", data="mnist"),
        "FEDMEND_DATA is set but there is no",
    )


# Names and settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "convnett"}, "did you mean convnet"),
        ({"model": "no_such_module:make"}, "there is no module 'no_such_module'"),
        ({"model": "planted:smal"}, "did you mean small"),
        ({"model": "planted:NAMES"}, "is a tuple"),
        ({"device": "nonsense"}, "there is no device 'nonsense'"),
        ({"device": "cuda:99"}, "there is no device 'cuda:99'"),
        ({"device": "meta"}, "there is no device 'meta'"),
        ({"method": "neural"}, "there is no detector 'neural'; expected contrastive"),
        ({"seed": "-1"}, "Invalid value for '--seed'"),
        ({"images": "0"}, "Invalid value for '--images'"),
        ({"modle": "convnet"}, "No such option '?--modle"),
    ],
)
def test_wrong_words(
    refused: Refused, files: Any, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    refused(files.scan(files.model("clean"), tmp_path / "out", **changes), message)


def test_missing_words(refused: Refused, files: Any) -> None:
    refused(["scan"], "Missing argument 'SUSPECT'")
    refused(["scan", files.model("clean")], "Missing option '--model'")
    refused(["scna"], "No such command 'scna'")


def test_no_words_at_all_show_the_help(run: Callable[..., Any]) -> None:
    result = run([])
    assert result.code in (0, 2)
    text = result.out + result.err
    assert text.startswith("Usage: fedmend")
    assert "\n  scan " in text


def toml(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[federation]\nclient = 3\n", r"unknown key \[federation\] client: did you mean clients\?"),
        ("[fedration]\nclients = 3\n", "unknown key fedration: did you mean federation"),
        ("lr = 0.1\n", r"lr belongs in \[training\]"),
        ("[federation]\nclients = 'three'\n", r"\[federation\] clients: .*got 'three'"),
        ('[[attack]]\n[attack.goal]\nkind = "all-to-one"\ntarget = 99\n', "names class 99"),
        ("[attack]\nfirst_round = 2\n", r"write \[\[attack\]\]"),
        ("seed = \n", "is not valid TOML"),
        ("[model]\nstart = 'no.safetensors'\n", "there is no file no.safetensors"),
    ],
)
def test_settings_that_cannot_be_used(refused: Refused, tmp_path: Path, text: str, message: str) -> None:
    config = toml(tmp_path / "config.toml", text)
    refused(["simulate", config, "--out", str(tmp_path / "run")], message)
    refused(["simulate", str(tmp_path / "no.toml"), "--out", str(tmp_path / "run")], "can't read")


# Results that can't be written


def quick(monkeypatch: pytest.MonkeyPatch, report: Any) -> None:
    """Scans take no time, where only the writing matters."""
    for name in ("scan", "repair"):
        monkeypatch.setattr(sys.modules[f"fedmend.cli.{name}_command"], "run_scan", lambda *_, **__: report)


@pytest.fixture(scope="module")
def report(world: planted.World) -> Any:
    from fedmend.detection import Case, Contrastive, SizeLimitedSearch, scan

    return scan(
        Case(world.clean, world.reference, world.images[:12], world.labels[:12]),
        Contrastive(search=SizeLimitedSearch(steps=1, explore=1, restarts=1)),
    )


@pytest.mark.parametrize("command", ["scan", "repair"])
def test_a_file_in_the_folders_place(
    refused: Refused, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Any, command: str
) -> None:
    quick(monkeypatch, report)
    (tmp_path / "taken").write_text("mine", encoding="utf-8")
    for out in (tmp_path / "taken", tmp_path / "taken" / "deeper"):
        refused(getattr(files, command)(files.model("clean"), out), "can't write")


def test_a_file_in_the_place_of_a_runs_folder(refused: Refused, tmp_path: Path, config: str) -> None:
    (tmp_path / "taken").write_text("mine", encoding="utf-8")
    refused(["simulate", config, "--out", str(tmp_path / "taken")], "can't write")
    refused(["report", str(tmp_path / "taken")], "no folder")


def test_a_folder_in_a_files_place(
    refused: Refused, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Any
) -> None:
    quick(monkeypatch, report)
    (tmp_path / "scan.json").mkdir()
    refused(files.scan(files.model("clean"), tmp_path), "can't write .*scan.json: Is a directory")


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, content: Any, *_: Any, **__: Any) -> int:
        with path.open("wb") as file:
            file.write((content.encode() if isinstance(content, str) else content)[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", write)
    monkeypatch.setattr(Path, "write_text", write)


@pytest.mark.parametrize("command", ["scan", "repair"])
def test_a_full_disk(
    refused: Refused, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Any, command: str
) -> None:
    quick(monkeypatch, report)
    with monkeypatch.context() as patched:
        full(patched)
        refused(getattr(files, command)(files.model("clean"), tmp_path / "out"), "No space left on device")
    (tmp_path / "out" / "scan.json").write_text("earlier", encoding="utf-8")
    full(monkeypatch)
    refused(getattr(files, command)(files.model("clean"), tmp_path / "out"), "No space left on device")


def test_a_full_disk_for_a_run(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    full(monkeypatch)
    refused(["simulate", config, "--out", str(tmp_path / "run")], "No space left on device")


# Ctrl-C


@pytest.fixture
def config(files: Any, tmp_path: Path) -> str:
    """More rounds than anybody waits for."""
    return toml(
        tmp_path / "config.toml",
        f"[data]\nsource = '{files.images}'\n[model]\narchitecture = '{planted.ARCHITECTURE}'\n"
        "[training]\nepochs = 1\n[federation]\nclients = 3\nclients_per_round = 2\nrounds = 100000\n",
    )


@pytest.mark.parametrize("command", ["scan", "repair"])
def test_an_interrupted_search(
    refused: Refused, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules[f"fedmend.cli.{command}_command"], "run_scan", interrupt)
    refused(getattr(files, command)(files.model("clean"), tmp_path / "out"), "interrupted", 130)


def test_an_interrupted_write(
    refused: Refused, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Any
) -> None:
    def write(path: Path, *_: Any, **__: Any) -> None:
        path.touch()
        raise KeyboardInterrupt

    quick(monkeypatch, report)
    monkeypatch.setattr(Path, "write_text", write)
    refused(files.scan(files.model("clean"), tmp_path / "out"), "interrupted", 130)


@pytest.mark.parametrize("command", ["scan", "simulate"])
def test_a_real_interrupt(files: Any, tmp_path: Path, config: str, command: str) -> None:
    """The signal comes while the work is under way; a slow model holds a scan up for as long as it takes."""
    out, started = tmp_path / "out", tmp_path / "started"
    (tmp_path / "own_slow.py").write_text(
        "import pathlib, planted\n"
        "def make(**settings):\n"
        "    model = planted.small(**settings)\n"
        "    def slow(_, images):\n"
        "        while images[0].requires_grad: pathlib.Path('started').touch()\n"
        "    model.register_forward_pre_hook(slow)\n"
        "    return model\n",
        encoding="utf-8",
    )
    if command == "scan":
        arguments = files.scan(files.model("clean"), out, model="own_slow:make")
    else:
        arguments, started = ["simulate", config, "--out", str(out)], out / "rounds.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", f"{LISTEN}; from fedmend.cli import main; main()", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(planted.__file__).parent), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not started.exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            printed, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, printed) == (130, "")
    assert said == "fedmend: interrupted; nothing half-written was left behind\n"
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]
    if command == "scan":
        assert not out.exists()


# Our own mistakes


def test_a_bug_is_neither_bad_input_nor_a_verdict(
    run: Callable[..., Any], files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys.modules["fedmend.cli.scan_command"], "run_scan", fails)
    result = run(files.scan(files.model("clean"), tmp_path / "out"))
    assert (result.code, result.out) == (70, "")
    assert "Traceback" in result.err
    assert result.err.splitlines()[-1].startswith("fedmend: this is a bug in fedmend")


def test_memory_that_is_used_up(
    refused: Refused, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...\nmore")):

        def fails(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr(sys.modules["fedmend.cli.scan_command"], "run_scan", fails)
        refused(files.scan(files.model("clean"), tmp_path / "out"), "out of memory")
