"""A short run on hostile files, and what the judge of each takes for a fault."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from children import Outcome, faults
from hostile_models import CANARY

GOOD = Outcome(2, "", "fedmend: refused\n", 300, 1, ())

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")


def test_a_short_run() -> None:
    run = Path(__file__).with_name("run.py")
    done = subprocess.run(
        [sys.executable, run, "--files", "30"], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout.endswith("30 of 30 files pass\n")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"code": 0, "err": ""}, None),
        ({"code": 70}, "exit code 70"),
        ({"code": -11}, "exit code -11"),
        ({"err": "fedmend: refused\nfedmend: again\n"}, "not one line of error"),
        ({"err": ""}, "not one line of error"),
        ({"err": "fedmend: " + "x" * 3000}, "not one line of error"),
        ({"out": "\x1b[2K"}, "raw control characters"),
        ({"out": "Traceback (most recent call last)"}, "a traceback"),
        ({"mib": 1025}, "1025 MiB"),
        ({"seconds": 21}, "21 s"),
        ({"ran": ("os.system",)}, "code was run: os.system"),
    ],
)
def test_faults(changes: dict[str, object], fault: str | None) -> None:
    outcome = Outcome(**(vars(GOOD) | changes))  # type: ignore[arg-type]
    assert list(faults(outcome)) == ([] if fault is None else [fault])


MEASURE = """
import os, pickle, signal, sys
from functools import partial
from pathlib import Path
from children import faults, run_child
from hostile_models import CANARY

works = {
    "memory": lambda: bytearray(1100 * 2**20),
    "error": lambda: 1 / 0,
    "file": lambda: Path(CANARY).touch(),
    "pickle": lambda: pickle.loads(b"cos\\ngetcwd\\n)R."),
    "death": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "nothing": lambda: sys.exit(0),
}
folder = Path(sys.argv[1])
for name, work in works.items():
    print(name, *faults(run_child(work, folder)), sep="; ")
    (folder / CANARY).unlink(missing_ok=True)
"""


def test_what_a_child_does_is_noticed(tmp_path: Path) -> None:
    place = tmp_path / "work"
    place.mkdir()
    here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, place],
        env=os.environ | {"PYTHONPATH": here},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = dict(line.split("; ", 1) if "; " in line else (line, "") for line in done.stdout.splitlines())
    assert found["memory"].endswith(" MiB")
    assert found["error"] == "exit code 70; a traceback"
    assert found["file"].startswith("code was run: ")
    assert found["file"].endswith(CANARY)
    assert found["pickle"] == "code was run: pickle.find_class ('os', 'getcwd')"
    assert found["death"] == "exit code -11"
    assert found["nothing"] == ""
