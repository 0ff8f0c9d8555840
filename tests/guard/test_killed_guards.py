"""A server that is killed goes on with the decisions that it would have made."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import killed_guards
import pytest

from fedmend.guard import History


def decided(history: Path) -> list[dict[str, Any]]:
    """All lines but for their times, and the digests that depend on them."""
    lines = [json.loads(text) for text in (history / "decisions.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if key not in ("date", "seconds", "previous")} for line in lines]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    subprocess.run([sys.executable, killed_guards.__file__, tmp_path / "killed"], check=True)
    *killed, whole = sorted((tmp_path / "killed").iterdir())
    assert len(killed) > 20
    expected = decided(whole)
    assert [line["action"] for line in expected] == ["accept", "accept", "rollback", "rollback"]
    assert [line["stop"] for line in expected] == [False, False, False, True]
    for path in killed:
        killed_guards.review_all(path)
        assert decided(path) == expected, path
        assert History(path).check().lines == 4
        names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*"))
        assert names == sorted(file.relative_to(whole).as_posix() for file in whole.rglob("*"))
