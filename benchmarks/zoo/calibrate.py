"""From the scans' results to what the package says about them: calibration.json and measured.json in fedmend.detection.

    python benchmarks/zoo/calibrate.py

Calibration takes the development split's clean pairs alone, one number a federation: its largest lead, in units of the
limit. A pair of two federations counts for the suspect's. The measured shares are those of the test split, one scan
(seed 0) a model; of backdoors in both models, those that aren't called clean.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scans import DEFAULT, EFFORT, IN_BOTH, SEARCHED, Scan, by, is_backdoored, is_named, lead, load, path_of

from fedmend.files import write_text

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "fedmend" / "detection"
EFFORTS = ("quick", "standard", "exhaustive")


def calibration(scans: list[Scan]) -> dict[str, Any]:
    """Each federation's largest lead over its clean pairs, sorted."""
    clean = [scan for scan in scans if not is_backdoored(scan)]
    largest: dict[str, float] = {}
    for scan in clean:
        federation = scan["federation"].partition("+")[0]
        largest[federation] = max(largest.get(federation, float("-inf")), lead(scan))
    return {
        "leads": sorted(largest.values()),
        "federations": len(largest),
        "pairs": len({(scan["cell"], scan["name"]) for scan in clean}),
        "cells": sorted({scan["cell"] for scan in clean}),
        "commits": sorted({scan["commit"] for scan in clean}),
    }


def shares(scans: list[Scan], both: list[Scan]) -> dict[str, list[int]]:
    """Of each family that the detector searches: how many were found with their target, and of how many.

    A family of which only some kinds were scanned has no share.

    Args:
        scans: of models against a clean reference.
        both: of models against a backdoored one.
    """
    families = by(filter(is_backdoored, scans), "family")
    found: dict[str, list[int]] = {}
    for searched, members in SEARCHED.items():
        own = [families.get((member,), []) for member in members]
        if all(own):
            found[searched] = [sum(is_named(scan) for scans in own for scan in scans), sum(map(len, own))]
    if both:
        found[IN_BOTH] = [sum(scan["verdict"] != "clean" for scan in both), len(both)]
    return found


def _of_test(effort: str) -> tuple[list[Scan], list[Scan]]:
    scans, both = (load(path_of("test", DEFAULT, effort, both=both), seed=0) for both in (False, True))
    return scans, both


def main() -> None:
    dev = load(path_of("dev", DEFAULT, EFFORT), seed=0)
    measured = {effort: found for effort in EFFORTS if (found := shares(*_of_test(effort)))}
    for name, content in (("calibration", calibration(dev) if dev else {}), ("measured", measured)):
        if content:  # without scans, what was measured before stays
            write_text(PACKAGE / f"{name}.json", json.dumps(content, indent=1) + "\n")
            print(f"{name}: {json.dumps(content)}")


if __name__ == "__main__":
    main()
