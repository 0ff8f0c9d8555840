"""Which commit a benchmark measures: every results file says it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent


def commit() -> str:
    """The commit of this checkout, with "+changes" where the package or the benchmarks differ from it.

    Where git isn't at hand, the environment variable COMMIT says it.
    """
    if given := os.environ.get("COMMIT"):
        return given
    head, changes = (
        subprocess.run(["git", *command], capture_output=True, text=True, cwd=HERE, check=True).stdout.strip()
        for command in (
            ["rev-parse", "--short=12", "HEAD"],
            ["status", "--porcelain", "--", "../src/**/*.py", "**/*.py"],
        )
    )
    return f"{head}+changes" if changes else head


def short(commit: str) -> str:
    """Twelve digits of a commit, and whether there were changes."""
    digits, _, changes = commit.partition("+")
    return digits[:12] + ("+changes" if changes or commit.endswith("+") else "")
