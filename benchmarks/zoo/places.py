"""How often a planted patch works where it wasn't planted: at other places, on other classes; results/places.jsonl.

    python benchmarks/zoo/places.py

For each backdoored model of the test with a patch for all classes: the ASR at its own place, and the mean over places
drawn at random. For each one-to-one model: the ASR on its source class, and the mean over the other classes. Where both
are alike, a search has no reason to find the planted place or source. A killed run goes on where it was.
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
from torch import nn

from fedmend.data import ImageSet
from fedmend.evaluation import attack_success_rate
from fedmend.federation import patch_of
from fedmend.files import write_text
from fedmend.goals import AllToOne, OneToOne
from fedmend.inference import predict
from fedmend.triggers import Patch, Trigger

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit

PLACES, IMAGES = 8, 300
MOST_IMAGES = 2000
"""Of all classes, for the models of a single source."""
PATH = RESULTS / "places.jsonl"


def measured(item: Item) -> dict[str, Any] | None:
    """A model's line; None if it has neither a patch for all classes nor a single source."""
    trigger, goal = item.attacks()[0]
    suspect, _ = item.models()
    if isinstance(goal, OneToOne):
        own, elsewhere = by_class(suspect, trigger, goal, item.attack_images())
    elif isinstance(goal, AllToOne) and (planted := patch_of(trigger)) is not None:
        images = item.attack_images().subset(range(IMAGES))
        rng = random.Random(item.name)
        at = [planted, *(moved(planted, rng) for _ in range(PLACES))]
        own, *elsewhere = (
            attack_success_rate(suspect, each, goal, images.images, images.labels) for each in at
        )
    else:
        return None
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


def by_class(
    suspect: nn.Module, trigger: Trigger, goal: OneToOne, images: ImageSet
) -> tuple[float, list[float]]:
    """The fraction of the source class, and of each other class, that the trigger sends to the target."""
    few = images.subset(range(min(MOST_IMAGES, len(images))))
    stamped = trigger.apply(few.images.float() / 255)
    there = predict(suspect, stamped).cpu() == goal.target
    rates = {
        label: float(there[few.labels == label].float().mean())
        for label in few.labels.unique().tolist()
        if label != goal.target
    }
    own = rates.pop(goal.source)
    return own, list(rates.values())


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
