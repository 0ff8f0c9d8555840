"""The contest's targets, from results/ alone, over the chosen federations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.contest.federations import chosen
from benchmarks.contest.lines import LIMITS, RESULTS, Line, load, rows
from benchmarks.results import Target, judge, proportion

from fedmend.comparison import NOTHING_RELEASED, Row

MOST_SHARE = 0.2
DEFENCES = ("guard", "guard-repair", "votes")
"""Ours, which the targets are for."""
NOT_YET = "not measured yet"


def targets(results: Path = RESULTS) -> list[Target]:
    """For each of our defences, a line for released models and one for accuracy; then lines that only inform."""
    lines = load(results)
    return [
        *(
            line
            for defence in DEFENCES
            for line in (of_released(defence, lines), of_accuracy(defence, lines))
        ),
        of_rules(lines),
        of_many_attackers(lines),
    ]


def ran(
    defence: str, lines: Mapping[str, Line], most: float = MOST_SHARE, least: float = 0.0
) -> tuple[list[Row], int]:
    """The rows of a defence for these shares of attackers, and how many are planned."""
    wanted = [each for each in chosen() if each.defence == defence and least < each.share <= most]
    return list(rows(wanted, lines)), len({each.name for each in wanted})


def asr_of(row: Row) -> float:
    """The largest ASR of a released model; 0 if none was."""
    return row.released_asr.largest if row.released_asr else 0.0


def of_released(defence: str, lines: Mapping[str, Line]) -> Target:
    """The largest ASR of any model that a defence released, with at most 20 % attackers."""
    found, planned = ran(defence, lines)
    above = [row for row in found if asr_of(row) > LIMITS.released_asr]
    told = f"max {max(map(asr_of, found)):.1%}; above in {len(above)} of {len(found)}" if found else NOT_YET
    return Target(
        "contest",
        f"{defence}, ASR of each released model, up to 20 % attackers",
        f"at most {LIMITS.released_asr:.0%}",
        told,
        len(found),
        planned,
        judge(not above, len(found), planned),
    )


def of_accuracy(defence: str, lines: Mapping[str, Line]) -> Target:
    """Accuracy lost against the honest federation under the same rule."""
    found, planned = ran(defence, lines)
    nothing = sum(NOTHING_RELEASED in row.misses for row in found)
    lost = [100 * row.lost.largest for row in found if row.lost]
    told = f"from {min(lost):+.1f} to {max(lost):+.1f} points" if lost else NOT_YET
    holds = nothing == 0 and all(each <= 100 * LIMITS.accuracy_lost + 1e-9 for each in lost)
    return Target(
        "contest",
        f"{defence}, accuracy lost, up to 20 % attackers",
        "each at most 1 point",
        told + f"; nothing released in {nothing}" * (nothing > 0),
        len(lost) + nothing,
        planned,
        judge(holds, len(lost) + nothing, planned),
    )


def of_rules(lines: Mapping[str, Line]) -> Target:
    """How often an aggregation rule alone holds the attack below the limit."""
    found, planned = ran("nothing", lines)
    return _held("rules without a defence", found, planned)


def of_many_attackers(lines: Mapping[str, Line]) -> Target:
    """How often the guard holds an attack by 40 % of the clients below the limit."""
    found, planned = ran("guard", lines, 1.0, MOST_SHARE)
    return _held("guard, 40 % attackers", found, planned)


def _held(name: str, found: Sequence[Row], planned: int) -> Target:
    held = sum(asr_of(row) <= LIMITS.released_asr for row in found)
    return Target(
        "contest",
        f"{name}: released ASR at most {LIMITS.released_asr:.0%}",
        "–",
        proportion(held, len(found)) if found else NOT_YET,
        len(found),
        planned,
        "no target",
    )
