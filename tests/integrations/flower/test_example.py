"""The example's app, and the change that the docs describe."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
APP = ROOT / "examples" / "flower" / "guarded_app"


def test_the_docs_show_the_whole_change_and_it_is_small() -> None:
    plain, guarded = (
        (APP / name).read_text(encoding="utf-8").splitlines()
        for name in ("plain_server_app.py", "server_app.py")
    )
    diff = list(difflib.unified_diff(plain, guarded, "plain_server_app.py", "server_app.py", lineterm=""))
    changed = [line for line in diff[2:] if line.startswith(("+", "-"))]
    assert 0 < len(changed) <= 10
    page = (ROOT / "docs" / "how-to" / "flower.md").read_text(encoding="utf-8")
    shown = re.search(r"```text\n(--- .*?)\n```", page, re.DOTALL)
    assert shown is not None
    assert shown[1].splitlines() == diff
