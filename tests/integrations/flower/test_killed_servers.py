"""A server that dies, or whose disk is full, at twenty moments: before, in and after scans, and in mid-write.

A federation that died and is started again ends with the rounds and decisions of one that wasn't killed. On a full disk
it loses a round. Neither ever accepts the poisoned model.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedmend.checkpoints import read_state
from fedmend.guard import History

MOMENTS = 20


@pytest.mark.slow
def test_a_killed_server_releases_nothing_unverified_and_goes_on(tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed_server.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(MOMENTS)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(runs) == MOMENTS
    whole = decided(tmp_path / "whole")
    assert [action for _, action, _ in whole] == ["accept", "accept", "rollback", "accept"]
    for each in runs:
        history = Path(each["folder"])
        assert each["second"] == 0, each
        if each["what"] == "die":
            assert each["first"] == 9, each
            assert decided(history) == whole, each
        else:  # a round is lost, or nothing began
            assert each["first"] in (0, 9), each
            assert len(decided(history)) >= len(whole) - 1, each
        for model in (history / "models").glob("*.safetensors"):
            assert float(read_state(model)["mark"]) < 100, each


def decided(history: Path) -> list[tuple[int | None, str, str]]:
    """Each round's decision, of a history that is checked: digests and chain."""
    opened = History(history)
    opened.check()
    return [(line.round, line.action, line.verdict) for line in opened.lines()]
