"""How often a planted patch works where it wasn't planted; results/places.jsonl.

    python benchmarks/zoo/places.py

For each backdoored model of the test with a patch for all classes: the ASR at its own place, and the mean over places
drawn at random. Where both are alike, a search has no reason to find the planted place. A killed run
goes on where it was.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from load import Item, items
from scans import RESULTS

from fedmend.evaluation import attack_success_rate
from fedmend.federation import patch_of
from fedmend.files import write_text
from fedmend.goals import AllToOne
from fedmend.triggers import Patch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit

PLACES, IMAGES = 8, 300
PATH = RESULTS / "places.jsonl"


def measured(item: Item) -> dict[str, Any] | None:
    """A model's line; None if it has no patch for all classes."""
    trigger, goal = item.attacks()[0]
    planted = patch_of(trigger)
    if planted is None or not isinstance(goal, AllToOne):
        return None
    suspect, _ = item.models()
    images = item.attack_images().subset(range(IMAGES))
    rng = random.Random(item.name)
    at = [planted, *(moved(planted, rng) for _ in range(PLACES))]
    own, *elsewhere = (attack_success_rate(suspect, each, goal, images.images, images.labels) for each in at)
    return {
        "cell": item.cell,
        "name": item.name,
        "family": item.family,
        "own": own,
        "elsewhere": mean(elsewhere),
        "commit": commit(),
        "torch": str(torch.__version__),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }


def moved(patch: Patch, rng: random.Random) -> Patch:
    """The patch at a place drawn at random, all of it within the image."""
    used = patch.mask[0] > 0
    shifts = []
    for axis in (0, 1):
        lines = used.any(1 - axis).nonzero().flatten()
        first, last = int(lines[0]), int(lines[-1])
        shifts.append(rng.randint(-first, used.shape[axis] - 1 - last))
    return Patch(patch.mask.roll(shifts, (1, 2)), patch.pattern.roll(shifts, (1, 2)))


def main() -> None:
    torch.set_num_threads(1)
    lines = (
        [json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines()] if PATH.exists() else []
    )
    done = {(line["cell"], line["name"]) for line in lines}
    for item in items(split="test", kind="backdoored"):
        if (item.cell, item.name) in done or (line := measured(item)) is None:
            continue
        lines.append(line)
        write_text(PATH, "".join(json.dumps(each) + "\n" for each in lines))
        print(item.cell, item.name, f"{line['own']:.2f} {line['elsewhere']:.2f}", flush=True)


if __name__ == "__main__":
    main()
