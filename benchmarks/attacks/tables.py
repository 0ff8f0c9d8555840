"""The generated section of this benchmark's README: a row an attack."""

from __future__ import annotations

from pathlib import Path

from benchmarks.attacks.cells import CELLS
from benchmarks.attacks.targets import PATH, effect, load
from benchmarks.results import markdown


def tables(path: Path = PATH) -> str:
    """Setting, effect, accuracy before and after, and what the paper reports."""
    results = load(path)
    rows: list[tuple[str, ...]] = [
        (
            "Attack",
            "Rule",
            "Attackers a round",
            "Rounds",
            "Judged by",
            "Effect",
            "Aim",
            "Accuracy",
            "Paper",
            "Commit",
        )
    ]
    for name, cell in CELLS.items():
        if name in results:
            row = results[name]
            before = row["compared_accuracy"] if "compared_accuracy" in row else row["accuracy_before"]
            rows.append(
                (
                    name,
                    f"`{row['settings']['aggregation']['kind']}`",
                    str(row["settings"]["attack"][0]["attackers"]),
                    str(row["rounds"]),
                    cell.effect,
                    f"{effect(cell, row):.1%}",
                    f"{cell.least:.0%}",
                    f"{before:.1%} to {row['accuracy']:.1%}",
                    cell.paper,
                    f"`{row['commit']}`",
                )
            )
    return markdown(rows, right="  rr rr   ")
