"""Ctrl-C, bugs and a full memory: none of them looks like a verdict, and nothing half-written is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import planted

Refused = Callable[..., None]

LISTEN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""A job that a shell started in the background ignores Ctrl-C, and so would the process of a test in it."""


@pytest.mark.parametrize("command", ["scan", "repair"])
def test_an_interrupted_search(
    refused: Refused, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"fedmend.cli.{command}_command.run_scan", interrupt)
    refused(getattr(files, command)(files.model("clean"), tmp_path / "out"), "interrupted", 130)


def test_an_interrupted_write(
    refused: Refused,
    files: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick_scans: Callable[[], None],
) -> None:
    def write(path: Path, *_: Any, **__: Any) -> None:
        path.touch()
        raise KeyboardInterrupt

    quick_scans()
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
        env=os.environ | {"PYTHONPATH": str(Path(planted.__file__).parent)},
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
    assert said == "fedmend: interrupted; no partial files were left\n"
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]
    if command == "scan":
        assert not out.exists()


def test_a_bug_is_neither_bad_input_nor_a_verdict(
    run: Callable[..., Any], files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("fedmend.cli.scan_command.run_scan", fails)
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

        monkeypatch.setattr("fedmend.cli.scan_command.run_scan", fails)
        refused(files.scan(files.model("clean"), tmp_path / "out"), "out of memory")
