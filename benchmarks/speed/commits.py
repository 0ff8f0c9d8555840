"""Which commit a benchmark measures."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent


def commit() -> str:
    """The commit of this checkout, with "+changes" where the package or the benchmarks differ from it."""
    head, changes = (
        subprocess.run(["git", *command], capture_output=True, text=True, cwd=HERE, check=True).stdout.strip()
        for command in (
            ["rev-parse", "--short=12", "HEAD"],
            ["status", "--porcelain", "--", "../../src/**/*.py", "../**/*.py"],
        )
    )
    return f"{head}+changes" if changes else head
