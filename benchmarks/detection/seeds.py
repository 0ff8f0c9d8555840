"""The default scan over ten seeds and other images; results/seeds.json grows scan by scan.

    python benchmarks/detection/seeds.py --workers 2

Run train.py first. Each seed chooses other images of the server's, and all of the search's random numbers. Models that
aren't trained yet are left out, and scans that have a result are passed over, so a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
from collections.abc import Iterator
from typing import Any

import torch
from evaluate import RESULTS, SCAN_IMAGES, SERVER_IMAGES, load
from train import RUNS, last_model

from fedmend import Case, load_images, scan
from fedmend.data import stratified
from fedmend.files import write_text
from fedmend.seeds import generator
from fedmend.triggers import Patch
from models import DATASETS, Job, branches, trunk

PATH = RESULTS / "seeds.json"
METHOD = "differential"
SEEDS = range(1, 11)

Task = tuple[str, Job, int]


def scanned(task: Task) -> tuple[str, str, dict[str, Any]]:
    """One scan of one model."""
    dataset, job, seed = task
    torch.set_num_threads(1)
    test = load_images(dataset, "test")
    server = test.subset(stratified(test, SERVER_IMAGES, generator(0, "server", job.name)))
    chosen = server.subset(stratified(server, SCAN_IMAGES, generator(seed, "scan", job.name)))
    suspect, reference = (load(last_model(dataset, each)) for each in (job, trunk(dataset)))
    report = scan(Case(suspect, reference, chosen.images, chosen.labels), seed=seed)
    finding = report.findings[0]
    first = finding.targets[0] if finding.targets else None
    trigger = None if first is None else first.trigger
    return (
        dataset,
        job.name,
        {
            "seed": seed,
            "verdict": report.verdict,
            "target": None if first is None else first.target,
            "reasr": None if first is None else first.success,
            "lead": finding.suspicious,
            "mask_size": trigger.size if isinstance(trigger, Patch) else None,
            "seconds": report.seconds,
        },
    )


def tasks(file: dict[str, Any]) -> Iterator[Task]:
    """What has no result yet, seed by seed, so that the first ones already cover all models."""
    for seed in SEEDS:
        for dataset in DATASETS:
            for job in branches(dataset, RUNS / dataset):
                done = file.get(dataset, {}).get(METHOD, {}).get(job.name, [])
                if seed not in [each["seed"] for each in done] and last_model(dataset, job).exists():
                    yield dataset, job, seed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    file: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}
    file |= {
        "targets": {
            f"{dataset}/{job.name}": job.config.attack[0].goal["target"] if job.config.attack else None
            for dataset in DATASETS
            for job in branches(dataset, RUNS / dataset)
        },
        "machine": f"{platform.machine()}, one core a scan",
        "torch": torch.__version__,
    }
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for dataset, name, found in pool.imap_unordered(scanned, list(tasks(file))):
            file.setdefault(dataset, {}).setdefault(METHOD, {}).setdefault(name, []).append(found)
            write_text(PATH, json.dumps(file, indent=1) + "\n")
            print(dataset, name, found["seed"], found["verdict"], f"{found['lead']:.2f}", flush=True)


if __name__ == "__main__":
    main()
