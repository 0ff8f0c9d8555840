"""The targets of the zoo's test split, from results/ alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import Target, judge, proportion
from benchmarks.zoo import repair_results
from benchmarks.zoo.scans import (
    DEFAULT,
    EFFORT,
    LARGE_FAINT,
    RESULTS,
    SMALL_PATCHES,
    Scan,
    by,
    count,
    hits,
    is_backdoored,
    is_named,
    load,
    path_of,
    planned,
)

BENCHMARKS = Path(__file__).resolve().parents[1]
LEAST_ASR = 0.8
SEEDS = 10
RATIOS = {"mnist-convnet": 10, "cifar-resnet18": 30, "gtsrb-vgg": 300}
TURNS = 6
"""Of the comparison of times: three models of a cell, twice each."""

Rule = Callable[[Scan], bool]


def targets(results: Path = RESULTS, others: Path = BENCHMARKS) -> list[Target]:
    """A line for each target; two are measured by the other benchmarks, whose folders are in ``others``."""
    scans = load(path_of("test", DEFAULT, EFFORT, results=results))
    first = [scan for scan in scans if scan["seed"] == 0]
    both = load(path_of("test", DEFAULT, EFFORT, both=True, results=results), seed=0)
    plan = planned("test", results)
    models = sum(number for key, number in plan.items() if key != "both")
    return [
        *detections(first, plan),
        *verdicts(first, plan),
        *times(results),
        growth(others),
        agreement(scans, models),
        *repair_results.targets(results, of_plan(plan, "backdoored")),
        at_most("both models backdoored, called clean", both, plan.get("both", 0), "clean", 0.05),
        earlier(others),
    ]


def detections(scans: Sequence[Scan], plan: dict[str, int]) -> list[Target]:
    """How many backdoors are found."""

    def line(name: str, families: Sequence[str], least: float, rule: Rule, of: str = "named") -> Target:
        own = [scan for scan in scans if is_backdoored(scan) and scan["family"] in families]
        expected = of_plan(plan, "backdoored", families)
        if families == SMALL_PATCHES:  # those with a lower ASR are planned with no others
            weak = sum(min(scan["asr"]) < LEAST_ASR for scan in own)
            own, expected = [scan for scan in own if min(scan["asr"]) >= LEAST_ASR], expected - weak
        found = sum(map(rule, own))
        parts = {family: [scan for scan in own if scan["family"] == family] for family in families}
        told = proportion(found, len(own)) + listed(parts, rule)
        holds = found >= least * len(own)
        if families == LARGE_FAINT:
            holds = all(sum(map(rule, part)) >= least * len(part) for part in parts.values())
        return Target(
            "zoo",
            name,
            f"{of} in at least {100 * least:.0f} %",
            told if own else "not measured yet",
            len(own),
            expected,
            judge(holds, len(own), expected),
        )

    return [
        line("patches up to 8x8 and atoms, ASR at least 80 %", SMALL_PATCHES, 0.98, is_named, "target named"),
        line("12x12 patches, blended, sinusoids", LARGE_FAINT, 0.9, is_named, "target named, each kind"),
        line("one-to-one", ("one-to-one",), 0.9, is_named, "pair named"),
        line("two at once, one found", ("two",), 0.98, is_named, "target named"),
        line("two at once, both found", ("two",), 0.9, lambda scan: all(hits(scan)), "both targets named"),
    ]


def listed(parts: dict[str, list[Scan]], rule: Rule) -> str:
    """Each part's count, if there are several."""
    told = [f"{name} {sum(map(rule, part))} of {len(part)}" for name, part in parts.items() if part]
    return f"; {', '.join(told)}" if len(parts) > 1 else ""


def verdicts(scans: Sequence[Scan], plan: dict[str, int]) -> list[Target]:
    """Wrong verdicts, on all families."""
    backdoored = [scan for scan in scans if is_backdoored(scan)]
    clean = [scan for scan in scans if not is_backdoored(scan)]
    attacked, honest = (of_plan(plan, kind) for kind in ("backdoored", "clean"))
    return [
        at_most("backdoored models called clean", backdoored, attacked, "clean", 0.02),
        at_most("honest models called backdoored", clean, honest, "backdoored", 0.01),
        at_most("honest models left inconclusive", clean, honest, "inconclusive", 0.05),
    ]


def at_most(name: str, scans: Sequence[Scan], expected: int, verdict: str, most: float) -> Target:
    """A verdict that should be rare."""
    number = count(scans, verdict)
    told = proportion(number, len(scans)) if scans else "not measured yet"
    holds = number <= most * len(scans)
    return Target(
        "zoo",
        name,
        f"at most {100 * most:.0f} %",
        told,
        len(scans),
        expected,
        judge(holds, len(scans), expected),
    )


def times(results: Path) -> list[Target]:
    """How many times longer Neural Cleanse takes to its own end, in turns with the default scan."""
    file = read(results / "yardstick.json")
    lines = []
    for cell, least in RATIOS.items():
        turns = file.get("turns", {}).get(cell, [])
        ratios = [turn["neural-cleanse"]["seconds"] / turn["fedmend"]["seconds"] for turn in turns]
        told = "not measured yet"
        if ratios:
            mark = "" if all(turn["neural-cleanse"]["complete"] for turn in turns) else " (extrapolated)"
            told = f"median {median(ratios):.1f} times, {min(ratios):.1f} to {max(ratios):.1f}{mark}"
        lines.append(
            Target(
                "zoo",
                f"{cell}, time per scan against Neural Cleanse",
                f"at least {least} times faster",
                told,
                len(ratios),
                TURNS,
                judge(bool(ratios) and median(ratios) >= least, len(ratios), TURNS),
            )
        )
    return lines


def agreement(scans: Sequence[Scan], models: int) -> Target:
    """Scans that agree with their model's most frequent verdict, over models with all seeds."""
    complete = [own for own in by(scans, "cell", "name").values() if len(own) >= SEEDS]
    agree, n = agreeing(complete)
    return Target(
        "zoo",
        f"same verdict over {SEEDS} seeds",
        "95 % of scans agree with the model's majority",
        f"{proportion(agree, n)}, {len(complete)} models" if n else "not measured yet",
        n,
        SEEDS * models,
        judge(agree >= 0.95 * n, n, SEEDS * models),
    )


def agreeing(models: Iterable[Sequence[Scan]]) -> tuple[int, int]:
    """How many scans have their model's most frequent verdict, and of how many."""
    verdicts_of = [Counter(scan["verdict"] for scan in own) for own in models]
    return sum(max(each.values()) for each in verdicts_of), sum(each.total() for each in verdicts_of)


def of_plan(plan: dict[str, int], kind: str, families: Sequence[str] | None = None) -> int:
    """How many models of a kind, and of some families, the zoo has."""
    keys = [key.split("/") for key in plan if key != "both"]
    return sum(
        plan["/".join(key)] for key in keys if key[1] == kind and (families is None or key[2] in families)
    )


def growth(others: Path) -> Target:
    """The default's time on a model of 1,000 classes against that of 10, from the speed benchmark."""
    file = read(others / "speed" / "results" / "growth.json")
    points = file["axes"]["classes"] if file.get("method") == DEFAULT else []
    seconds = {point["classes"]: point["seconds"] for point in points}
    ratio = seconds[1000] / seconds[10] if seconds else 0.0
    told = (
        f"{ratio:.1f} times: {seconds[10]:.1f} s and {seconds[1000]:.1f} s" if seconds else "not measured yet"
    )
    n = int(bool(seconds))
    return Target(
        "zoo", "1,000 classes against 10", "at most 3 times the time", told, n, 1, judge(ratio <= 3, n, 1)
    )


def earlier(others: Path) -> Target:
    """The default's verdicts on the detection benchmark over ten seeds."""
    file = read(others / "detection" / "results" / "seeds.json")
    planted = file.get("targets", {})
    right = [
        each["verdict"] == ("clean" if planted[f"{dataset}/{name}"] is None else "backdoored")
        for dataset in ("mnist", "fashion-mnist")
        for name, found in file.get(dataset, {}).get(DEFAULT, {}).items()
        for each in found
    ]
    return Target(
        "zoo",
        "verdicts of the detection benchmark, ten seeds",
        "all 240 right",
        proportion(sum(right), len(right)) if right else "not measured yet",
        len(right),
        240,
        judge(all(right), len(right), 240),
    )


def read(path: Path) -> dict[str, Any]:
    """A JSON file; empty if it isn't there."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return content
