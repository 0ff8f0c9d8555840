"""The generated section of this benchmark's README: a row a method and model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.results import markdown
from benchmarks.rivals.targets import METHODS, PATH, load


def tables(path: Path = PATH) -> str:
    """Verdict, flagged classes and seconds of both, and how their norms agree."""
    rows: list[tuple[str, ...]] = [
        ("Method", "Model", "Target", "fedmend", "CPU s", "TrojanZoo", "CPU s", "times", "Spearman", "Commit")
    ]
    results = load(path)
    for method in METHODS:
        for row in results.get(method, []):
            target = ", ".join(map(str, row["targets"])) or "none"
            ours, theirs = row["fedmend"], row["trojanzoo"]
            rows.append(
                (
                    *(method, row["name"], target, _said(ours), f"{ours['cpu_seconds']:.1f}"),
                    *(
                        _said(theirs),
                        f"{theirs['cpu_seconds']:.0f}",
                        f"{row['ratio']:.1f}",
                        f"{row['spearman']:.2f}",
                    ),
                    f"`{row['commit']}`",
                )
            )
    return markdown(rows, right="    r rrr ")


def _said(found: dict[str, Any]) -> str:
    flagged = ", ".join(map(str, found["flagged"]))
    return f"{found['verdict']} ({flagged})" if flagged else str(found["verdict"])
