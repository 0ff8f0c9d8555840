"""The example in FLARE's simulator: a malicious client's round isn't released."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fedmend.checkpoints import read_state
from fedmend.guard import History, digest

EXAMPLE = Path(__file__).parents[3] / "examples" / "nvflare"
POLICY = """
[guard]
detectors = [{kind = "differential", effort = "quick"}]
warm_up = 2
"""


@pytest.mark.slow
def test_the_example_runs_and_the_attack_is_not_released(tmp_path: Path) -> None:
    """Clients send differences, which FLARE makes; the other tests have full weights as well."""
    (tmp_path / "policy.toml").write_text(POLICY, encoding="utf-8")
    history = tmp_path / "history"
    options = ["--rounds", "3", "--epochs", "1", "--first-attack", "3", "--differences"]
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "job.py"), *options, "--policy", "policy.toml"],
        cwd=tmp_path,
        env=os.environ | {"GUARD_HISTORY": str(history)},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    opened = History(history)
    opened.check()
    actions = [line.action for line in opened.lines()]
    assert actions[:2] == ["accept", "accept"]
    assert actions[2] in ("rollback", "repair")
    assert len(actions) == 3
    newest = opened.read()[0].last
    assert newest is not None
    assert digest(read_state(history / "models" / newest.stored.file)) == newest.stored.weights
    saved = next((tmp_path / "workspace").rglob("FL_global_model.pt"))
    final = torch.load(saved, weights_only=False)["model"]
    assert digest({name: torch.as_tensor(value) for name, value in final.items()}) == newest.stored.weights
