"""A server that is killed goes on with the decisions that it would have made."""

import json
import os
from pathlib import Path
from typing import Any

import guarded_nets
import pytest

from every_moment import copied_at_every_moment
from fedmend.guard import History

MARKS = (0.2, 3.0, 0.9)


def review_all(history: Path) -> None:
    """Decide on three rounds, from the last decided on: one accepted, one rejected, one inconclusive."""
    guard = guarded_nets.new_guard(history, stop_after=2)
    for number in range(guard.last_round or 1, len(MARKS) + 1):
        guard.review(guarded_nets.net(MARKS[number - 1], seed=number), number)


def decided(history: Path) -> list[dict[str, Any]]:
    """All lines but for their times, and the digests that depend on them."""
    lines = [json.loads(text) for text in (history / "decisions.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if key not in ("date", "seconds", "previous")} for line in lines]


def test_killed_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    whole = tmp_path / "whole"
    with copied_at_every_moment(whole, tmp_path / "killed"):
        review_all(whole)
    killed = sorted((tmp_path / "killed").iterdir())
    assert len(killed) > 20
    expected = decided(whole)
    assert [line["action"] for line in expected] == ["accept", "accept", "rollback", "rollback"]
    assert [line["stop"] for line in expected] == [False, False, False, True]
    for path in killed:
        review_all(path)
        assert decided(path) == expected, path
        assert History(path).check().lines == 4
        names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*"))
        assert names == sorted(file.relative_to(whole).as_posix() for file in whole.rglob("*"))
