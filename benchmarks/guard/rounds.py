"""The lines of results/released.jsonl, and what they say."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from benchmarks.guard.federations import ATTACKS

RELEASED = Path(__file__).resolve().parent / "results" / "released.jsonl"

Run = dict[str, Any]


def load(path: Path = RELEASED) -> list[Run]:
    """All lines; none without the file."""
    if not path.exists():
        return []
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def attacked(
    runs: Sequence[Run], guarded: bool, repairs: bool = False, by: Collection[str] = ATTACKS
) -> list[Run]:
    """The runs under some attacks, with or without a guard, and that with or without repairs."""
    return [
        run
        for run in runs
        if run["attack"] in by and run["guarded"] is guarded and run.get("repairs", False) is repairs
    ]


def honest(runs: Sequence[Run], guarded: bool) -> list[Run]:
    """The runs without an attacker, with or without a guard."""
    return [run for run in runs if run["attack"] is None and run["guarded"] is guarded]


def reviewed(run: Run) -> list[dict[str, Any]]:
    """Its rounds that a guard reviewed."""
    return [row for row in run["rounds"] if "action" in row]


def largest_asr(run: Run) -> float:
    """The largest ASR of any model after a round: of those that were released, with a guard."""
    return max(float(row["asr"]) for row in run["rounds"])


def start_asr(run: Run) -> float:
    """The ASR in the pre-trained model: images that it takes for the target anyway."""
    return float(run["rounds"][0]["asr"])


def final_accuracy(run: Run) -> float:
    """Of the last round's model."""
    return float(run["rounds"][-1]["accuracy"])


def without_attacker(run: Run, runs: Sequence[Run]) -> Run | None:
    """The same federation without an attacker and without a guard, if it has run."""
    same = [each for each in honest(runs, guarded=False) if _federation(each) == _federation(run)]
    return same[0] if same else None


def points_lost(run: Run, runs: Sequence[Run]) -> float | None:
    """Final accuracy lost against the same federation without an attacker, in points."""
    other = without_attacker(run, runs)
    return None if other is None else 100 * (final_accuracy(other) - final_accuracy(run))


def held_back(run: Run) -> int:
    """How many rounds' candidates were not accepted as they were."""
    return sum(row["action"] != "accept" for row in reviewed(run))


def _federation(run: Run) -> tuple[str, int]:
    return run["dataset"], run["seed"]
