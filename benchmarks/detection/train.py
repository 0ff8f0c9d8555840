"""Train the models of the detection benchmark; a killed run goes on where it was.

    python benchmarks/detection/train.py --datasets mnist fashion-mnist --workers 2

Set FEDMEND_DATA to read the datasets from parquet files instead of the hub.
"""

from __future__ import annotations

import argparse
import multiprocessing
from pathlib import Path

import torch

from fedmend.data import load_images
from fedmend.federation import simulate
from models import DATASETS, Job, branches, trunk

RUNS = Path(__file__).parents[1] / "runs" / "detection"


def last_model(dataset: str, job: Job) -> Path:
    """The checkpoint of a job's last round."""
    rounds = job.config.federation.rounds
    return RUNS / dataset / job.name / "checkpoints" / f"round-{rounds:04d}.safetensors"


def train(task: tuple[str, Job]) -> str:
    dataset, job = task
    torch.set_num_threads(1)
    run = simulate(job.config, RUNS / dataset / job.name, resume=True)
    last = run.records()[-1]
    asr = "".join(f", ASR {rate:.2%}" for record in run.attacker.records()[-1:] for rate in record.asr)
    return f"{dataset} {job.name}: round {last.round}, accuracy {last.accuracy:.2%}{asr}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    for dataset in options.datasets:
        load_images(dataset, "test")
    trunks = [(dataset, trunk(dataset)) for dataset in options.datasets]
    jobs = zip(*(branches(dataset, RUNS / dataset) for dataset in options.datasets), strict=True)
    others = [task for row in jobs for task in zip(options.datasets, row, strict=True)]
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for tasks in (trunks, others):
            for line in pool.imap_unordered(train, tasks):
                print(line, flush=True)


if __name__ == "__main__":
    main()
