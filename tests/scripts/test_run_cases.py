import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "run_cases.py"
PASSES = 'echo "$FEDMEND $DATA" && test -e beside.txt && rm beside.txt'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cases = {"case-1": PASSES, "case-2": "printf 'wrong\\033[2K'; exit 3", "case-3": "sleep 600 & sleep 600"}
    for name, text in cases.items():
        (tmp_path / "cases" / name).mkdir(parents=True)
        (tmp_path / "cases" / name / "run.sh").write_text(text, encoding="utf-8")
        (tmp_path / "cases" / name / "beside.txt").touch()
    (tmp_path / "cases" / "no-case").mkdir()
    return tmp_path / "cases"


def ran(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(folder), "--data", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_each_case_has_a_line(folder: Path) -> None:
    done = ran(folder, "--limit", "1")
    assert done.returncode == 1
    lines = [line.rpartition(" (")[0] or line for line in done.stdout.splitlines()]
    assert lines == [
        "case-1: pass",
        "case-2: FAIL: exit code 3",
        r"    wrong\x1b[2K",
        "case-3: FAIL: still running after 1 s",
        "1 of 3 cases pass",
    ]
    assert (folder / "case-1" / "beside.txt").exists()  # it worked in a copy


def test_all_pass(folder: Path) -> None:
    done = ran(folder, "--only", "case-1")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 of 1 cases pass")


def test_no_case_is_no_success(folder: Path) -> None:
    done = ran(folder / "no-case")
    assert done.returncode == 2
    assert "expected folders that hold a run.sh" in done.stderr
