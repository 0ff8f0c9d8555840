"""Results that can't be written: one clear line, and what was there before stays."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Refused = Callable[..., None]


@pytest.mark.parametrize("command", ["scan", "repair"])
def test_a_file_in_the_folders_place(
    refused: Refused, files: Any, tmp_path: Path, quick_scans: Callable[[], None], command: str
) -> None:
    quick_scans()
    (tmp_path / "taken").write_text("mine", encoding="utf-8")
    for out in (tmp_path / "taken", tmp_path / "taken" / "deeper"):
        refused(getattr(files, command)(files.model("clean"), out), "can't write")


def test_a_file_in_the_place_of_a_runs_folder(refused: Refused, tmp_path: Path, config: str) -> None:
    (tmp_path / "taken").write_text("mine", encoding="utf-8")
    refused(["simulate", config, "--out", str(tmp_path / "taken")], "can't write")
    refused(["report", str(tmp_path / "taken")], "no folder")


def test_a_folder_in_a_files_place(
    refused: Refused, files: Any, tmp_path: Path, quick_scans: Callable[[], None]
) -> None:
    quick_scans()
    (tmp_path / "scan.json").mkdir()
    arguments = [*files.scan(files.model("clean"), tmp_path), "--overwrite"]
    refused(arguments, "can't write .*scan.json: Is a directory")


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, content: Any, *_: Any, **__: Any) -> int:
        with path.open("wb") as file:
            file.write((content.encode() if isinstance(content, str) else content)[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", write)
    monkeypatch.setattr(Path, "write_text", write)


@pytest.mark.parametrize("command", ["scan", "repair"])
def test_a_full_disk(
    refused: Refused,
    files: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick_scans: Callable[[], None],
    command: str,
) -> None:
    quick_scans()
    with monkeypatch.context() as patched:
        full(patched)
        refused(getattr(files, command)(files.model("clean"), tmp_path / "out"), "No space left on device")
    (tmp_path / "out" / "scan.json").write_text("earlier", encoding="utf-8")
    full(monkeypatch)
    again = [*getattr(files, command)(files.model("clean"), tmp_path / "out"), "--overwrite"]
    refused(again, "No space left on device")


def test_a_full_disk_for_a_run(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    full(monkeypatch)
    refused(
        ["simulate", config, "--out", str(tmp_path / "run")],
        "No space left on device",
        writes=("run/digests.jsonl",),
    )


@pytest.mark.parametrize("command", ["scan", "repair"])
def test_what_cannot_be_shown_is_said_before_the_search(
    refused: Refused, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def search(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"fedmend.cli.{command}_command.run_scan", search)
    (tmp_path / "scan.json").write_text("damaged, and about to be replaced", encoding="utf-8")
    arguments = [*getattr(files, command)(files.model("clean"), tmp_path), "--overwrite"]
    refused(arguments, "interrupted", 130)
    (tmp_path / "config.json").write_text("[", encoding="utf-8")
    refused(arguments, "config.json is damaged")
