"""Class names, paths and messages that would rewrite what a terminal shows, or can't be encoded at all."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planted
from fedmend.cli.console import run as run_command
from fedmend.cli.console import show
from fedmend.detection import ScanReport

HOSTILE = "\x1b[1A\x1b[2K\x1b[1GCLEAN.\nCLEAN. Nothing was found.\u202e\udce9\x9b8m<b>"
SHOWN = r"\u001b[1A\u001b[2K\u001b[1GCLEAN.\nCLEAN. Nothing was found.\u202e\udce9\u009b8m<b>"


@pytest.fixture
def hostile_images(files: Any, tmp_path: Path) -> str:
    with np.load(files.images) as given:
        images, labels = given["images"], given["labels"]
    names = [*planted.NAMES]
    names[planted.TARGET] = HOSTILE
    np.savez(tmp_path / "images.npz", images=images, labels=labels, class_names=np.array(names))
    return str(tmp_path / "images.npz")


@pytest.mark.usefixtures("short_search")
def test_a_class_name_can_not_change_the_verdict(
    run: Callable[..., Any], files: Any, tmp_path: Path, hostile_images: str
) -> None:
    out = tmp_path / "out"
    result = run(files.scan(files.model("backdoored"), out, data=hostile_images))
    assert result.code == 1
    lines = result.out.splitlines()
    assert lines[0].startswith("BACKDOORED. ")
    assert SHOWN in lines[0]
    assert all(line.isprintable() and not line.startswith("CLEAN") for line in lines)
    report = ScanReport.load(out)
    assert report.class_names[planted.TARGET] == SHOWN
    page = (out / "report.html").read_text(encoding="utf-8")
    assert SHOWN.replace("<b>", "&lt;b&gt;") in page
    assert not {"\x1b", "\u202e", "\x9b"} & set(page)


def test_nor_in_json(
    run: Callable[..., Any], files: Any, tmp_path: Path, hostile_images: str, quick_scans: Callable[[], None]
) -> None:
    quick_scans()
    result = run([*files.scan(files.model("clean"), tmp_path / "out", data=hostile_images), "--json"])
    assert all(line.isprintable() for line in result.out.splitlines())
    assert json.loads(result.out) == json.loads((tmp_path / "out" / "scan.json").read_text(encoding="utf-8"))


def test_errors_name_hostile_files_safely(refused: Callable[..., None], files: Any, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9\x1b[2K\nCLEAN.csv")
    path.touch()
    told = r"caf\\udce9\\u001b\[2K CLEAN\.csv is not a file of images"
    refused(files.scan(files.model("clean"), tmp_path / "out", data=str(path)), told)


def test_a_traceback_is_printed_safely(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise RuntimeError("\x1b[2K\udce9")

    assert run_command(command) == 70
    printed = capsys.readouterr().err
    assert "RuntimeError: \\u001b[2K\\udce9\n" in printed
    assert printed.startswith("Traceback")


def test_lines_are_kept_and_any_text_can_be_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8", errors="strict"))
    show("a\nb\r\udce9")
    sys.stdout.flush()
    assert raw.getvalue() == b"a\nb\\r\\udce9\n"
