"""A server that dies, or whose disk is full, at twenty moments: before, in and after scans, and in mid-write.

The federation that is started again ends with the rounds and decisions of one that wasn't killed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert {each["first"] for each in runs} == {9}, runs
    assert {each["second"] for each in runs} == {0}, runs
    whole = decided(tmp_path / "whole")
    assert [action for _, action, _ in whole] == ["accept", "accept", "rollback", "accept"]
    for each in runs:
        assert decided(Path(each["folder"])) == whole, each


def decided(history: Path) -> list[tuple[int | None, str, str]]:
    """Each round's decision, of a history that is checked: digests and chain."""
    opened = History(history)
    opened.check()
    return [(line.round, line.action, line.verdict) for line in opened.lines()]
