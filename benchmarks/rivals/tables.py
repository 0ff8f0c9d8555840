"""The generated section of this benchmark's README: a row a method and model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.results import markdown
from benchmarks.rivals.targets import METHODS, PATH, load, said

FULL = 500


def tables(path: Path = PATH) -> str:
    """Verdict, flagged classes and seconds of both, and how they agree."""
    rows: list[tuple[str, ...]] = [
        ("Method", "Model", "Target", "fedmend", "CPU s", "Other", "CPU s", "times", "Agreement", "Commit")
    ]
    results = load(path)
    for method in METHODS:
        for row in results.get(method, []):
            target = ", ".join(map(str, row["targets"])) or "none"
            own, other = row["fedmend"], row["other"]
            rows.append(
                (
                    *(_named(method, row), f"{row['cell']} {row['name']}", target),
                    *(_verdict(own), f"{own['cpu_seconds']:.1f}"),
                    *(_verdict(other), f"{other['cpu_seconds']:.1f}"),
                    *(f"{row['ratio']:.1f}", said(row["agreement"]), f"`{row['commit']}`"),
                )
            )
    return markdown(rows, right="    r rrr ")


def _named(method: str, row: dict[str, Any]) -> str:
    """The method, the other library, and its epochs where they were cut."""
    library = row["other"]["version"].split()[0]
    cut = f", {row['epochs']} epochs" if row["epochs"] != FULL else ""
    return f"{method} ({library}{cut})"


def _verdict(found: dict[str, Any]) -> str:
    flagged = ", ".join(map(str, found["flagged"]))
    return f"{found['verdict']} ({flagged})" if flagged else str(found["verdict"])
