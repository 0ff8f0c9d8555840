"""Worker processes import nothing from the current folder but what their parent imported from it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedmend.federation import workers

STRANGERS = """
from pathlib import Path
from simulations import busy
from tiny_data import data
from fedmend.federation import Execution, simulate
if __name__ == "__main__":
    simulate(busy(), Path("run"), data=data(), execution=Execution(workers=2))
"""


@pytest.mark.slow
def test_files_called_like_modules_in_the_current_folder_are_not_run(tmp_path: Path) -> None:
    script, here = tmp_path / "script.py", tmp_path / "here"
    script.write_text(STRANGERS, encoding="utf-8")
    here.mkdir()
    for name in ("random", "tempfile", "calendar", "numpy", "torch", "fedmend", "sympy"):
        (here / f"{name}.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    paths = os.pathsep.join(path for path in sys.path if path)
    subprocess.run([sys.executable, script], check=True, cwd=here, env=os.environ | {"PYTHONPATH": paths})
    assert list(here.glob("run/checkpoints/*"))


@pytest.mark.parametrize("safe", [None, "yes"])
def test_workers_start_away_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, safe: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    if safe is not None:
        monkeypatch.setenv("PYTHONSAFEPATH", safe)
    Path("random.py").write_text("raise SystemExit(7)", encoding="utf-8")
    with workers._away_from_the_current_folder() as before:
        assert subprocess.run([sys.executable, "-c", "import random"], check=False).returncode == 0
    assert before.get("PYTHONSAFEPATH") == os.environ.get("PYTHONSAFEPATH") == safe
