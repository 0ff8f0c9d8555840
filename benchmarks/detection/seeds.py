"""The default scan beside the contrastive ones, over ten seeds and other images; results/seeds.json.

    python benchmarks/detection/seeds.py --workers 2

Run train.py first. Each seed chooses other images of the server's, and the search's restarts; the contrastive scans get
three images per class, as in their paper. What has a result is passed over, so a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
from typing import Any

import torch
from evaluate import RESULTS, SCAN_IMAGES, SERVER_IMAGES, load
from train import RUNS

from fedmend import DETECTORS, Case, load_images, scan
from fedmend.data import stratified
from fedmend.files import write_text
from fedmend.seeds import generator
from fedmend.triggers import Patch
from models import DATASETS, TRUNK_ROUNDS, Job, branches

PATH = RESULTS / "seeds.json"
COMPARED = {"differential": SCAN_IMAGES, "contrastive": 30, "contrastive-thorough": 30}
"""The methods, and how many images each gets."""
SEEDS = range(1, 11)


def scans(task: tuple[str, Job, str]) -> tuple[str, str, str, list[dict[str, Any]]]:
    """All seeds of one method on one model."""
    dataset, job, method = task
    torch.set_num_threads(1)
    test = load_images(dataset, "test")
    server = test.subset(stratified(test, SERVER_IMAGES, generator(0, "server", job.name)))
    last = RUNS / dataset / job.name / "checkpoints" / f"round-{job.config.federation.rounds:04d}.safetensors"
    suspect = load(last)
    reference = load(RUNS / dataset / "trunk" / "checkpoints" / f"round-{TRUNK_ROUNDS:04d}.safetensors")
    found = []
    for seed in SEEDS:
        chosen = server.subset(stratified(server, COMPARED[method], generator(seed, "scan", job.name)))
        report = scan(Case(suspect, reference, chosen.images, chosen.labels), DETECTORS[method](), seed=seed)
        finding = report.findings[0]
        target = finding.targets[0]
        found.append(
            {
                "seed": seed,
                "verdict": report.verdict,
                "target": target.target,
                "reasr": target.success,
                "mask_size": target.trigger.size if isinstance(target.trigger, Patch) else None,
                "seconds": report.seconds,
            }
        )
    return dataset, job.name, method, found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    file: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}
    tasks = [
        (dataset, job, method)
        for method in COMPARED
        for dataset in DATASETS
        for job in branches(dataset, RUNS / dataset)
        if job.name not in file.get(dataset, {}).get(method, {})
    ]
    truth = {
        f"{dataset}/{job.name}": job.config.attack[0].goal["target"] if job.config.attack else None
        for dataset in DATASETS
        for job in branches(dataset, RUNS / dataset)
    }
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for dataset, name, method, found in pool.imap_unordered(scans, tasks):
            file.setdefault(dataset, {}).setdefault(method, {})[name] = found
            file |= {
                "targets": truth,
                "machine": f"{platform.machine()}, one core a scan",
                "torch": torch.__version__,
            }
            write_text(PATH, json.dumps(file, indent=1) + "\n")
            print(dataset, name, method, [each["verdict"] for each in found], flush=True)


if __name__ == "__main__":
    main()
