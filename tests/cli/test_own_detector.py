"""Detectors of one's own, each in a single file outside the package, run from the command line."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import planted

ROOT = Path(__file__).parents[2]


def fedmend(folder: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """In a process of its own, in the folder that holds the detector."""
    path = os.pathsep.join([str(Path(planted.__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", "from fedmend.cli import main; main()", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def example() -> str:
    """The one file in CONTRIBUTING's section on detectors."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text[text.index("## A new detector") :]
    [code] = re.findall(r"```python\n(.*?)```", section[: section.index("\n## ", 3)], flags=re.DOTALL)
    assert isinstance(code, str)
    return code


def test_the_example_of_contributing_runs_as_it_stands(files: Any, tmp_path: Path) -> None:
    """Beside a network of one's own; nothing but JSON on stdout, nothing on stderr."""
    (tmp_path / "mydetector.py").write_text(example(), encoding="utf-8")
    (tmp_path / "own_net.py").write_text("from planted import small as build\n", encoding="utf-8")
    own = {"method": "mydetector:make", "model": "own_net:build"}
    done = fedmend(tmp_path, [*files.scan(files.model("backdoored"), tmp_path / "out", **own), "--json"])
    assert (done.returncode, done.stderr) == (1, "")
    printed = json.loads(done.stdout)
    assert printed["verdict"] == "backdoored"
    told = rf"The suspect takes \d\d% more of the noise for {planted.NAMES[planted.TARGET]} than"
    assert re.match(told, printed["reason"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"scan.json", "report.html"}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Shift of noise" in page
    assert json.loads((tmp_path / "out" / "scan.json").read_text(encoding="utf-8")) == printed
    [finding] = printed["findings"]
    assert finding["detector"] == "noise-shift"
    assert (finding["limit"], finding["settings"]) == (0.3, {"limit": 0.3, "images": 500})
    assert finding["suspicious"] > 0.3


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize(("suspect", "code"), [("backdoored", 1), ("clean", 0)])
def test_the_example_detector_needs_no_reference(
    run: Callable[..., Any],
    files: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suspect: str,
    code: int,
) -> None:
    """In this process, but in the folder that holds the detector."""
    monkeypatch.chdir(ROOT / "examples")
    arguments = files.scan(files.model(suspect), tmp_path / "out", method="own_detector:make")
    place = arguments.index("--reference")
    done = run(arguments[:place] + arguments[place + 2 :])
    assert (done.code, done.err) == (code, "")
    verdict = "BACKDOORED" if code else r"CLEAN \(weak evidence: no reference\)"
    assert re.match(rf"{verdict}\. The suspect takes \d\d% of noise for ", done.out)
    kept = json.loads((tmp_path / "out" / "scan.json").read_text(encoding="utf-8"))
    assert (kept["reference_accuracy"], kept["suspect_accuracy"]) == (None, 1.0)
    if code:
        assert kept["findings"][0]["targets"][0]["target"] == planted.TARGET
    assert not (tmp_path / "out" / "trigger.safetensors").exists()


@pytest.mark.usefixtures("importable")
def test_a_finding_that_cannot_be_used_is_one_line_and_nothing_is_written(
    refused: Callable[..., None], files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = example().replace('"backdoored" if backdoored else "clean"', '"fine"')
    assert changed != example()
    (tmp_path / "own_changed.py").write_text(changed, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    arguments = files.scan(files.model("clean"), tmp_path / "out", method="own_changed:make")
    refused(arguments, "^fedmend: the detector NoiseShift returned a Finding that can't be used: verdict")


@pytest.mark.usefixtures("importable")
def test_another_factory_scans_with_other_settings(
    run: Callable[..., Any], files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_example.py").write_text(example(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    arguments = files.scan(files.model("clean"), tmp_path / "out", method="own_example:strict")
    assert run(arguments).code == 0
    (finding,) = json.loads((tmp_path / "out" / "scan.json").read_text(encoding="utf-8"))["findings"]
    assert finding["settings"]["limit"] == 0.1
    assert finding["verdict"] == "clean"
