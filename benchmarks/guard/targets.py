"""The guard's targets, from results/ alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.guard import rounds
from benchmarks.guard.federations import ADAPTIVE, ATTACKS, DATASETS, HONEST_ROUNDS, SEEDS
from benchmarks.guard.rounds import RELEASED, Run
from benchmarks.results import Target, judge, proportion

RESULTS = RELEASED.parent
PLANTED, MOST_ASR, MOST_LOST, MOST_HELD_BACK = 0.8, 0.05, 1.0, 2
MOST_OF_A_ROUND = 0.05
MOST_GROWTH, REVIEWS = 5.0, 200
NETWORKS = ("convnet", "resnet18")
FEDERATIONS = len(DATASETS) * len(SEEDS)
NOT_YET = "not measured yet"


def read(name: str, results: Path = RESULTS) -> dict[str, Any]:
    """A results file; empty if it isn't there."""
    path = results / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def targets(results: Path = RESULTS) -> list[Target]:
    """A line for each attack, and those of repairs, adaptive attackers, honest rounds and costs."""
    runs = rounds.load(results / RELEASED.name)
    guarded, repairing = (rounds.attacked(runs, guarded=True, repairs=each) for each in (False, True))
    return [
        of_planting(rounds.attacked(runs, guarded=False)),
        *(of_released(name, [run for run in guarded if run["attack"] == name]) for name in ATTACKS),
        of_accuracy("final accuracy lost under attack", guarded, runs),
        of_released("with repairs", repairing, len(ATTACKS) * FEDERATIONS),
        of_accuracy("with repairs, final accuracy lost under attack", repairing, runs),
        of_released(
            "adaptive attackers",
            rounds.attacked(runs, guarded=True, by=ADAPTIVE),
            len(ADAPTIVE) * len(DATASETS),
        ),
        of_honest(rounds.honest(runs, guarded=True)),
        of_overhead(read("overhead", results)),
        of_memory(read("memory", results)),
    ]


def of_planting(unguarded: Sequence[Run]) -> Target:
    """Each attack must succeed where there is no guard; else it says nothing."""
    planted = [rounds.largest_asr(run) for run in unguarded]
    planned = len(ATTACKS) * FEDERATIONS
    return Target(
        "guard",
        "without a guard, largest ASR",
        f"each at least {PLANTED:.0%}",
        f"min {min(planted):.1%}" if planted else NOT_YET,
        len(planted),
        planned,
        judge(all(each >= PLANTED for each in planted), len(planted), planned),
    )


def of_released(attack: str, guarded: Sequence[Run], planned: int = FEDERATIONS) -> Target:
    """The largest ASR of any model that a guard released, from the start on."""
    largest = [rounds.largest_asr(run) for run in guarded]
    told = NOT_YET
    if largest:
        above = sum(row["asr"] > MOST_ASR for run in guarded for row in run["rounds"])
        told = f"max {max(largest):.1%}" + f" ({above} rounds above)" * (above > 0)
    return Target(
        "guard",
        f"{attack}, ASR of each released model",
        f"at most {MOST_ASR:.0%}",
        told,
        len(largest),
        planned,
        judge(all(each <= MOST_ASR for each in largest), len(largest), planned),
    )


def of_accuracy(what: str, guarded: Sequence[Run], runs: Sequence[Run]) -> Target:
    """Final accuracy lost against the same federation without attacker and guard, over all attacks."""
    lost = [each for run in guarded if (each := rounds.points_lost(run, runs)) is not None]
    planned = len(ATTACKS) * FEDERATIONS
    return Target(
        "guard",
        what,
        f"each at most {MOST_LOST:.0f} point",
        f"from {min(lost):+.1f} to {max(lost):+.1f} points" if lost else NOT_YET,
        len(lost),
        planned,
        judge(all(each <= MOST_LOST + 1e-9 for each in lost), len(lost), planned),
    )


def of_honest(honest: Sequence[Run]) -> Target:
    """Rounds of honest federations that were rolled back or repaired."""
    n, planned = sum(len(rounds.reviewed(run)) for run in honest), HONEST_ROUNDS * FEDERATIONS
    held = sum(map(rounds.held_back, honest))
    return Target(
        "guard",
        "honest rounds held back",
        f"at most {MOST_HELD_BACK} of {planned}",
        proportion(held, n) if n else NOT_YET,
        n,
        planned,
        judge(held <= MOST_HELD_BACK, n, planned),
    )


def of_overhead(file: dict[str, Any]) -> Target:
    """The guard's part of the processor time of a round of ten clients."""
    rows = {row["network"]: row for row in file.get("rows", ()) if row["network"] in NETWORKS}
    told = ", ".join(
        f"{name} {row['share']:.1%} (clients in parallel {row['share_of_parallel_round']:.1%})"
        for name, row in rows.items()
    )
    return Target(
        "guard",
        "part of a round's processor time",
        f"at most {MOST_OF_A_ROUND:.0%}",
        told or NOT_YET,
        len(rows),
        len(NETWORKS),
        judge(all(row["share"] <= MOST_OF_A_ROUND for row in rows.values()), len(rows), len(NETWORKS)),
    )


def of_memory(file: dict[str, Any]) -> Target:
    """Growth of a server's resident memory over guarded rounds, after the first 20."""
    grown, n = file.get("growth_after_20_reviews_mib", 0.0), file.get("rounds", 0)
    return Target(
        "guard",
        "a server's memory over guarded rounds",
        f"grows by at most {MOST_GROWTH:.0f} MiB",
        f"{grown:+.1f} MiB" if n else NOT_YET,
        n,
        REVIEWS,
        judge(grown <= MOST_GROWTH, n, REVIEWS),
    )
