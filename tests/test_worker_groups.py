"""Tests that share a fixture of their module run in one worker, which makes it once."""

import os
import subprocess
import sys
from pathlib import Path

MODULE = """
import os
import pytest

@pytest.fixture(scope="module")
def made():
    with open({made!r}, "a") as file:
        file.write("made\\n")

@pytest.mark.parametrize("number", range(6))
def test_it(made, number):
    pass
"""


def test_a_modules_fixture_is_made_once(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / f"test_{name}.py").write_text(MODULE.format(made=str(tmp_path / name)))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-n",
            "2",
            "--dist",
            "loadgroup",
            "-p",
            "worker_groups",
            str(tmp_path),
        ],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "first").read_text() == (tmp_path / "second").read_text() == "made\n"
