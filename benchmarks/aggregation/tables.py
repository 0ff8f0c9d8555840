"""The generated section of this benchmark's README: a row a rule."""

from __future__ import annotations

from pathlib import Path

from benchmarks.aggregation.targets import PATH, RULES, load
from benchmarks.results import markdown


def tables(path: Path = PATH) -> str:
    """Peak memory, that of one update and of all, and time."""
    results = load(path)
    rows: list[tuple[str, ...]] = [
        (
            "Rule",
            "Clients",
            "Parameters",
            "Peak, MiB",
            "One update, MiB",
            "All updates, MiB",
            "Seconds",
            "Commit",
        )
    ]
    for name in RULES:
        if name in results:
            row = results[name]
            rows.append(
                (
                    name,
                    f"{row['clients']:,}",
                    f"{row['parameters']:,}",
                    f"{row['peak_mib']:,.0f}",
                    f"{row['update_mib']:,.0f}",
                    f"{row['all_updates_mib']:,.0f}",
                    f"{row['seconds']:,.0f}",
                    f"`{row['commit']}`",
                )
            )
    return markdown(rows, right=" rrrrrr ")
