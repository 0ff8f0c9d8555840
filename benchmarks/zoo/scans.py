"""The scans in results/*.jsonl, and what is right and wrong about them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from fedmend.detection import DifferenceLimits

RESULTS = Path(__file__).parent / "results"
DEFAULT, EFFORT = "differential", "standard"

Scan = dict[str, Any]

SMALL_PATCHES = ("patch-1", "patch-3", "patch-5", "patch-8", "atoms")
LARGE_FAINT = ("patch-12", "blend", "sinusoid")
FAMILIES = (*SMALL_PATCHES, *LARGE_FAINT, "one-to-one", "two", "all-to-all")
SEARCHED = {
    "patch, all-to-one": (*SMALL_PATCHES, "patch-12", "two"),
    "patch, one-to-one": ("one-to-one", "all-to-all"),
    "addition, all-to-one": ("blend", "sinusoid"),
}
"""The zoo's families by the detector's family that can describe them."""
IN_BOTH = "in both models"
"""The family of backdoors that the reference has, too."""
JOINED = "in_both_models"
"""Ends the keys of leads that say nothing about the suspect alone."""


def path_of(split: str, method: str, effort: str, *, both: bool = False, results: Path = RESULTS) -> Path:
    """The results file of a split, a method and, for methods that have efforts, an effort."""
    name = method.replace(":", "-")
    if not method.startswith("contrastive-paper"):
        name += f"-{effort}"
    return results / f"{split}-{name}{'-both' * both}.jsonl"


def load(path: Path, *, seed: int | None = None) -> list[Scan]:
    """A file's scans, of one seed or of all; empty without the file."""
    if not path.exists():
        return []
    scans = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [scan for scan in scans if seed in (None, scan["seed"])]


def planned(split: str, results: Path = RESULTS) -> dict[str, int]:
    """How many models the zoo has of each cell, kind and family, as ``cell/kind/family``, and for ``both``."""
    path = results / "zoo.json"
    counts: dict[str, dict[str, int]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return counts.get(split, {})


def is_backdoored(scan: Scan) -> bool:
    """Whether a backdoor is planted in the suspect."""
    return bool(scan["kind"] == "backdoored")


def hits(scan: Scan) -> list[bool]:
    """For each planted backdoor, whether it was found with its target and, if it has one, its source."""
    return [
        scan["verdict"] == "backdoored"
        and any(
            target == wanted and (source is None or source == named) for named, target, _ in scan["found"]
        )
        for source, wanted in scan["want"]
    ]


def is_named(scan: Scan) -> bool:
    """Whether at least one planted backdoor was found with its target."""
    return any(hits(scan))


def is_right(scan: Scan) -> bool:
    """Whether a backdoor was found with its target, or a clean model called clean."""
    return is_named(scan) if is_backdoored(scan) else scan["verdict"] == "clean"


def strays(scan: Scan) -> int:
    """How many targets were named that aren't planted, by a verdict of backdoored."""
    planted = {target for _, target in scan["want"]}
    if scan["verdict"] != "backdoored":
        return 0
    return sum(target not in planted for _, target, _ in scan["found"])


def is_narrowed(scan: Scan) -> bool:
    """Whether the target of a backdoor for all classes was named for single source classes alone."""
    if scan["verdict"] != "backdoored":
        return False
    named = [
        {source for source, target, _ in scan["found"] if target == wanted}
        for planted, wanted in scan["want"]
        if planted is None
    ]
    return any(sources and None not in sources for sources in named)


def leads(scan: Scan) -> dict[str, float]:
    """The lead of each family that was searched."""
    return {
        key: value
        for key, value in scan["measures"].items()
        if key.startswith("lead_") and not key.endswith(JOINED) and value is not None
    }


def lead(scan: Scan) -> float:
    """The largest lead in units of its family's limit, as ``Finding.suspicious``; 0 if nothing could be searched."""
    limits = DifferenceLimits()
    return max(
        (value / limits.of(key.endswith("one_to_one"))[0] for key, value in leads(scan).items()), default=0.0
    )


def count(scans: Iterable[Scan], verdict: str) -> int:
    """How many scans have a verdict."""
    return sum(scan["verdict"] == verdict for scan in scans)


def by(scans: Iterable[Scan], *keys: str) -> dict[tuple[str, ...], list[Scan]]:
    """Groups of scans that agree in all keys."""
    groups: dict[tuple[str, ...], list[Scan]] = defaultdict(list)
    for scan in scans:
        groups[tuple(scan[key] for key in keys)].append(scan)
    return groups


def rate(number: int, n: int) -> str:
    """``number`` of ``n`` with the exact 95 % interval of the rate behind it (Clopper and Pearson), in percent."""
    if not n:
        return "–"
    interval = binomtest(number, n).proportion_ci(0.95, "exact")
    return f"{number}/{n} ({100 * interval.low:.0f} to {100 * interval.high:.0f} %)"
