"""The generated section of this benchmark's README: a row an attack, then how long backdoors last."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.attacks.cells import CELLS
from benchmarks.attacks.setting import AFTER
from benchmarks.attacks.targets import PATH, Row, accuracies, effect, load, reached
from benchmarks.commits import short
from benchmarks.results import markdown

_HEAD = (
    "Attack",
    "Rule",
    "Attackers",
    "Rounds",
    "Judged by",
    "Effect",
    "Aim",
    "Reached",
    "Accuracy",
    "Paper",
    "Commit",
)


def tables(path: Path = PATH) -> str:
    """Setting, effect, accuracy before and after, and what the paper reports, with ranges over the seeds."""
    results = load(path)
    rows: list[tuple[str, ...]] = [_HEAD]
    for name, cell in CELLS.items():
        if found := results.get(name):
            before, after = zip(*(accuracies(cell, row) for row in found), strict=True)
            per_round, attackers = _setting(found[0])
            rows.append(
                (
                    name,
                    f"`{cell.aggregation['kind']}`",
                    f"{attackers} of {per_round}",
                    str(cell.rounds),
                    cell.effect,
                    _range(effect(cell, row) for row in found),
                    f"{cell.least:.0%}",
                    f"{sum(reached(cell, row) for row in found)} of {len(found)}",
                    f"{_range(before)}; {_range(after)}",
                    cell.paper,
                    ", ".join(sorted({f"`{short(row['commit'])}`" for row in found})),
                )
            )
    return markdown(rows, right="  rr rrr   ") + "\n\n" + _lasting(results)


def _setting(row: Row) -> tuple[int, int]:
    settings = row["settings"]
    return settings["federation"]["clients_per_round"], settings["attack"][0]["attackers"]


def _range(values: Iterable[float]) -> str:
    """The smallest and the largest, in percent."""
    low, *_, high = sorted([*values] * 2)
    return f"{low:.1%}" if low == high else f"{100 * low:.1f} to {high:.1%}"


def _lasting(results: dict[str, list[Row]]) -> str:
    """The ASR when the attack ends and after honest rounds."""
    rows = [
        (
            "ASR",
            "At the end of the attack",
            f"{AFTER // 2} honest rounds later",
            f"{AFTER} honest rounds later",
        )
    ]
    for name, cell in CELLS.items():
        if cell.after and (found := results.get(name)):
            places = (cell.rounds, cell.rounds + AFTER // 2, cell.rounds + AFTER)
            rows.append((name, *(_range(row["asr"][place] for row in found) for place in places)))
    return markdown(rows, right=" rrr")
