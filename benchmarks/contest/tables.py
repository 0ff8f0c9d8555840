"""The generated section of this benchmark's README: targets, misses, and a table for each kind of federation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.contest.federations import ATTACKS, DEFENCES, RULES, federations
from benchmarks.contest.lines import LIMITS, RESULTS, Line, load, rows
from benchmarks.contest.targets import DEFENCES as OURS
from benchmarks.contest.targets import asr_of, targets
from benchmarks.results import markdown, proportion, table

from fedmend.comparison import NOTHING_RELEASED, Row, misses_first

_LETTERS = {"accept": "A", "repair": "P", "rollback": "R", "hold": "H"}

Kind = tuple[str, str, str]
"""Dataset, partition, and share of attackers."""


def tables(results: Path = RESULTS) -> str:
    """The targets, where our defences miss, which of rule and guard is better, then every figure."""
    lines, parts = load(results), ["### Targets", table(targets(results))]
    found = rows(federations(), lines)
    missed = [row for row in found if row.misses and row.choices["defence"] in OURS]
    if missed:
        parts += ["### Where a defence misses", _misses(missed)]
    if found:
        parts += ["### Rules beside the guard", _beside(found), "### Released ASR and accuracy lost"]
        parts += [_kind(kind, _of_kind(found, kind)) for kind in dict.fromkeys(map(_kind_of, found))]
        parts.append(_provenance(lines.values()))
    return "\n\n".join(parts)


def _kind_of(row: Row) -> Kind:
    return row.choices["dataset"], row.choices["partition"], row.choices["attackers"]


def _of_kind(found: Sequence[Row], kind: Kind) -> dict[tuple[str, str, str], Row]:
    return {
        (row.choices["rule"], row.choices["attack"], row.choices["defence"]): row
        for row in found
        if _kind_of(row) == kind
    }


def _misses(missed: Sequence[Row]) -> str:
    head = (
        "Federation",
        "rule",
        "attack",
        "defence",
        "misses",
        "released ASR",
        "accuracy lost",
        "rounds 1, 2, …",
    )
    return markdown(
        [
            head,
            *(
                (
                    f"{row.choices['dataset']}, {row.choices['partition']}, {row.choices['attackers']} attackers",
                    row.choices["rule"],
                    row.choices["attack"],
                    row.choices["defence"],
                    " and ".join(row.misses),
                    f"{asr_of(row):.1%}",
                    _points(row),
                    _decisions(row),
                )
                for row in misses_first(missed)
            ),
        ],
        right="lllllrrl",
    )


def _beside(found: Sequence[Row]) -> str:
    """For each rule, how often it alone, and with the guard, meets both limits, over the attacks that both have had."""
    head = (
        "Rule",
        "alone: released ASR in the limit",
        "accuracy too",
        "with the guard",
        "accuracy too",
        "better alone",
    )
    named = {
        (*_kind_of(row), *(row.choices[name] for name in ("rule", "attack", "defence"))): row for row in found
    }
    lines: list[Sequence[str]] = [head]
    for rule in RULES:
        pairs = [
            (row, named[(*key[:-1], "guard")])
            for key, row in named.items()
            if key[3] == rule and key[-1] == "nothing" and (*key[:-1], "guard") in named
        ]
        if pairs:
            counts = [
                sum(test(pair[side]) for pair in pairs)
                for side in (0, 1)
                for test in (_held, lambda row: not row.misses)
            ]
            better = sum(not alone.misses and bool(guarded.misses) for alone, guarded in pairs)
            lines.append(
                (rule, *(proportion(count, len(pairs)) for count in counts), f"{better} of {len(pairs)}")
            )
    return markdown(lines)


def _held(row: Row) -> bool:
    return asr_of(row) <= LIMITS.released_asr


def _kind(kind: Kind, found: Mapping[tuple[str, str, str], Row]) -> str:
    dataset, partition, attackers = kind
    shown = [each for each in DEFENCES if any(key[2] == each for key in found)]
    lines: list[Sequence[str]] = [("Rule", "attack", *shown, "guard’s rounds")]
    for rule in RULES:
        for attack in ATTACKS:
            here = [found.get((rule, attack, defence)) for defence in shown]
            if any(here):
                guarded = found.get((rule, attack, "guard"))
                lines.append((rule, attack, *map(_cell, here), _decisions(guarded) if guarded else ""))
    title = (
        f"**{dataset}, {partition}, {attackers} attackers**: largest released ASR; points of accuracy lost"
    )
    return f"{title}\n\n{markdown(lines, right='ll' + 'r' * len(shown))}"


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if NOTHING_RELEASED in row.misses:
        return f"**{NOTHING_RELEASED}**"
    told = f"{asr_of(row):.1%}; {_points(row)}"
    return f"**{told}**" if row.misses else told


def _points(row: Row) -> str:
    return "–" if row.lost is None else f"{100 * row.lost.largest:+.1f}"


def _decisions(row: Row) -> str:
    letters = "".join(_LETTERS[each.decision] for each in row.runs[0].result.rounds if each.decision)
    return f"`{letters}`" if letters else ""


def _provenance(lines: Sequence[Line]) -> str:
    commits = Counter(line["commit"] for line in lines)
    told = ", ".join(f"`{commit}` ({count})" for commit, count in commits.most_common())
    torch = ", ".join(sorted({line["versions"]["torch"] for line in lines}))
    machines = "; ".join(sorted({line["machine"] for line in lines}))
    seconds = sum(line["result"]["seconds"] for line in lines)
    return (
        f"Commits (federations): {told}; torch {torch}; machine: {machines}; {seconds / 3600:.1f} hours of rounds, "
        "reviews and votes."
    )
