"""Train the federations of the pruning benchmark; a killed run goes on where it was.

    python benchmarks/pruning/train.py fashion mnist --workers 2

Set FEDMEND_DATA to read the datasets from parquet files instead of the hub.
"""

from __future__ import annotations

import argparse
import multiprocessing
from pathlib import Path

import torch

from fedmend.errors import FedmendError
from fedmend.federation import RunFolder, simulate, simulated_config
from models import (
    AWARE,
    FASHION_PAIRS,
    LABELS,
    MNIST_PAIRS,
    PAPER_SEEDS,
    PATTERNS,
    PENALTIES,
    Job,
    as_in_paper,
    branch,
    from_start,
    goes_on,
    settled,
    trunk,
)

RUNS = Path(__file__).parents[1] / "runs" / "pruning"

TRUNKS = {
    "fashion": [trunk("fashion-mnist")],
    "mnist": [trunk("mnist")],
    "patterns": [trunk("mnist")],
    "small": [trunk("mnist-small")],
    "seeds": [trunk("fashion-mnist", seed) for seed in (3, 4)],
    "aware": [trunk(world) for world in dict.fromkeys(world for world, *_ in AWARE)],
}
SETTLED = {
    "fashion": [settled("fashion-mnist", RUNS)],
    "mnist": [settled("mnist", RUNS)],
    "patterns": [settled("mnist", RUNS)],
    "small": [settled("mnist-small", RUNS)],
    "seeds": [settled("fashion-mnist", RUNS, seed) for seed in (3, 4)],
    "aware": [settled(world, RUNS) for world in dict.fromkeys(world for world, *_ in AWARE)],
}
BRANCHES = {
    "fashion": [branch("fashion-mnist", pair, RUNS) for pair in FASHION_PAIRS],
    "mnist": [branch("mnist", pair, RUNS) for pair in MNIST_PAIRS],
    "patterns": [branch("mnist", (9, 1), RUNS, pattern=pattern) for pattern in PATTERNS[1:]],
    "small": [branch("mnist-small", pair, RUNS) for pair in MNIST_PAIRS],
    "seeds": [branch("fashion-mnist", pair, RUNS, seed=seed) for seed in (3, 4) for pair in FASHION_PAIRS],
    "aware": [branch(world, (source, target), RUNS, aware=True) for world, source, target in AWARE],
    "start": [from_start("mnist", pair) for pair in ((9, 1), (9, 4), (7, 9))],
    "batch-norm-mnist": [as_in_paper("mnist", pair, seed) for seed in PAPER_SEEDS for pair in MNIST_PAIRS],
    "batch-norm-small": [as_in_paper("mnist-small", pair) for pair in MNIST_PAIRS],
    "batch-norm-fashion": [
        as_in_paper("fashion-mnist", pair, seed) for seed in PAPER_SEEDS for pair in FASHION_PAIRS
    ],
    "labels": [from_start("mnist", (9, 1), labels=labels) for labels in LABELS],
    "penalties": [from_start("mnist", (9, 1), penalty=penalty) for penalty in PENALTIES],
}


def train(job: Job) -> str:
    """What became of it, in a line; one that fails keeps no other from running."""
    torch.set_num_threads(1)
    try:
        return trained(job, RunFolder(RUNS / job.name))
    except FedmendError as error:
        return f"{job.name}: failed, {error}"


def trained(job: Job, run: RunFolder) -> str:
    """Run the federation, for more rounds where the attack hasn't succeeded yet."""
    if run.last_round() is None or run.config().federation.rounds <= job.config.federation.rounds:
        simulate(job.config, run.path, resume=True)
    else:
        simulate(simulated_config(run), run.path, resume=True)
    while (longer := goes_on(job, run.attacker.records())) is not None:
        simulate(longer.config, run.path, resume=True)
    last = run.records()[-1]
    asr = "".join(f", ASR {rate:.2%}" for record in run.attacker.records()[-1:] for rate in record.asr)
    return f"{job.name}: round {last.round}, accuracy {last.accuracy:.2%}{asr}"


def arguments(description: str | None, *, most: bool = False) -> argparse.Namespace:
    """Which parts, and in how many processes; or, with ``most``, how many models of each."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(BRANCHES)}; all by default")
    if most:
        parser.add_argument("--most", type=int, help="models of each part; all by default")
    else:
        parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.parts = options.parts or list(BRANCHES)
    if unknown := set(options.parts) - set(BRANCHES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; the parts are {', '.join(BRANCHES)}")
    return options


def main() -> None:
    options = arguments(__doc__)
    stages = [
        list({job.name: job for part in options.parts for job in stage.get(part, [])}.values())
        for stage in (TRUNKS, SETTLED, BRANCHES)
    ]
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for jobs in stages:
            for line in pool.imap_unordered(train, jobs):
                print(line, flush=True)


if __name__ == "__main__":
    main()
