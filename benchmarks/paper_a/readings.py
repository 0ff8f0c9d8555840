"""Which reading of the contrastive paper's text finds its triggers? A line a scan, in results/readings.jsonl.

    ZOO_RUNS=... python benchmarks/paper_a/readings.py
    ZOO_RUNS=... python benchmarks/paper_a/readings.py --readings plain "L1 mean"

One ambiguity is changed at a time, from the plainest reading; then come combinations. The models are the zoo's
development models, so nothing is chosen on models that are judged later. Scans that have a line are passed over.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit
from benchmarks.paper_a.inversion import Reading, invert, measured
from benchmarks.zoo.load import Item, items

from fedmend.evaluation import mask_iou
from fedmend.federation import patch_of
from fedmend.inference import frozen, pixels_for

PATH = Path(__file__).parent / "results" / "readings.jsonl"

PER_CLASS, SEED = 3, 0
MASK_LEVEL = 0.3
MODELS = {
    "mnist-convnet": (
        "dev-atoms-1",
        "dev-patch-8-0",
        "dev-1-24-23",
        "dev-1-21-16",
        "dev-2-24-14",
        "dev-patch-3-0",
        "dev-atoms-0",
    ),
    "fashion-three-conv": ("dev-patch-3-1", "dev-1-24-23", "dev-atoms-1", "dev-1-21-11"),
}
PLAIN = Reading()
OURS = Reading(start="normal", values="sigmoid", features="logits", optimizer="fast adam", lr=0.1)
READINGS = {
    "plain": PLAIN,
    "logits as features": replace(PLAIN, features="logits"),
    "logits, sigmoid, 0.1": OURS,
    "logits, sigmoid, 0.1, L1 mean": replace(OURS, norm="mean"),
    "sigmoid, 0.1, L1 mean": replace(OURS, features="hidden", norm="mean"),
    "L1 mean": replace(PLAIN, norm="mean"),
    "L1 mean, weights of 1": replace(PLAIN, norm="mean", alpha=1.0, beta=1.0),
    "learning rate 0.1": replace(PLAIN, lr=0.1),
    "sigmoid": replace(PLAIN, values="sigmoid"),
    "normalised images": replace(PLAIN, pattern="normalised"),
    "normal start": replace(PLAIN, start="normal"),
    "small mask at the start": replace(PLAIN, start="small"),
    "alternating": replace(PLAIN, order="alternating"),
    "Adam with betas 0.5 and 0.9": replace(PLAIN, optimizer="fast adam"),
    "SGD": replace(PLAIN, optimizer="sgd", lr=0.1),
    "batches of 10": replace(PLAIN, batch=10, steps=1500),
    "learning rate 0.001": replace(PLAIN, lr=0.001),
}


def scanned(item: Item, name: str) -> dict[str, Any]:
    """One reading on one model."""
    torch.set_num_threads(1)
    suspect, reference = item.models()
    images, labels = item.images(PER_CLASS, SEED)
    pixels = pixels_for(suspect, images)
    began = time.process_time()
    with frozen(suspect, reference):
        found = invert(suspect, reference, pixels, READINGS[name], SEED)
        measures = measured(suspect, found, pixels, labels, READINGS[name])
    planted = [patch_of(trigger) for trigger, _ in item.attacks()]
    return {
        "reading": name,
        "settings": asdict(READINGS[name]),
        "cell": item.cell,
        "name": item.name,
        "kind": item.kind,
        "seed": SEED,
        "target": item.goal[0]["target"] if item.goal else None,
        "iou": round(mask_iou(planted[0].mask, found.mask, level=MASK_LEVEL), 3)
        if planted and planted[0]
        else None,
        "cpu_seconds": round(time.process_time() - began, 2),
    } | measures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readings", nargs="+", choices=READINGS, default=list(READINGS))
    parser.add_argument("--cells", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--most", type=int, help="at most so many models of a cell")
    options = parser.parse_args()
    lines = PATH.read_text(encoding="utf-8").splitlines() if PATH.exists() else []
    done = {(line["reading"], line["cell"], line["name"]) for line in map(json.loads, lines)}
    told = {
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, one thread",
    }
    PATH.parent.mkdir(exist_ok=True)
    for cell in options.cells:
        named = {item.name: item for item in items("dev", cell)}
        for name in options.readings:
            for model in MODELS[cell][: options.most]:
                if (name, cell, model) in done:
                    continue
                line = scanned(named[model], name) | told
                with PATH.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(
                    {key: value for key, value in line.items() if key not in ("settings", *told)}, flush=True
                )


if __name__ == "__main__":
    main()
