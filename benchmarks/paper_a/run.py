"""The contrastive paper's experiments: train, scan and repair; a line of JSON a job, in results/<scale>.jsonl.

    python benchmarks/paper_a/run.py mnist-short                   # all of it, most decisive first
    python benchmarks/paper_a/run.py mnist-short --most 20
    python benchmarks/paper_a/run.py cifar10-narrow --studies sba dba clean
    python benchmarks/paper_a/run.py mnist-short --train           # only train the federations

Jobs that have a line are passed over, and a federation goes on after its last round, so a killed run goes on where it
was; two runs may share a scale if their studies differ. One thread. FEDMEND_DATA is the folder with the datasets,
PAPER_A_RUNS the folder for the models.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit
from benchmarks.paper_a.federations import Federation, branches
from benchmarks.paper_a.measuring import MEAN, METHODS, OURS, PAPER, RIVALS, Job, measured
from benchmarks.paper_a.scales import SCALES, Scale
from benchmarks.paper_a.training import LEVELS, runs_of, train

RESULTS = Path(__file__).parent / "results"
MAIN = (PAPER, MEAN, OURS)
STUDIES = ("sba", "dba", "clean", "reference", "size", "clients", "partition", "from-start")


def jobs(scale: Scale) -> Iterator[Job]:
    """Everything that is measured, most decisive first.

    The first three models of each kind are judged by all methods; the rest by the paper's method, its other reading and
    fedmend's first.
    """
    found = branches(scale, runs_of(scale))
    table, studies = _split(found, lambda each: each.study in ("sba", "dba", "clean"))
    first, rest = table[:9], table[9:]
    yield from _by(first, MAIN)
    yield from _by(first, RIVALS)
    for level in LEVELS[::-1]:
        for each in (first[0], first[2]):
            yield from (Job(each, method, level) for method in MAIN)
    turns, later = studies[: len(studies) // 3], studies[len(studies) // 3 :]
    yield from _by(turns, MAIN)
    yield from _by(rest, MAIN)
    yield from _by(later, MAIN)
    yield from _by(rest, RIVALS)


def _split(
    found: list[Federation], chosen: Callable[[Federation], bool]
) -> tuple[list[Federation], list[Federation]]:
    return [each for each in found if chosen(each)], [each for each in found if not chosen(each)]


def _by(federations: list[Federation], methods: tuple[str, ...]) -> Iterator[Job]:
    return (Job(each, method) for each in federations for method in methods)


def study_of(job: Job) -> str:
    """The study that a job belongs to."""
    return job.federation.study if job.level is None else "reference"


def done(path: Path) -> set[tuple[str, str, float | None]]:
    """The keys of the lines that are there."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {(line["name"], line["method"], line["level"]) for line in map(json.loads, lines)}


def provenance() -> dict[str, str]:
    """What else a line holds."""
    return {
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, one thread",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scale", choices=SCALES)
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--most", type=int, help="at most so many jobs")
    parser.add_argument("--train", action="store_true", help="only train")
    options = parser.parse_args()
    torch.set_num_threads(1)
    scale, path, told = SCALES[options.scale], RESULTS / f"{options.scale}.jsonl", provenance()
    RESULTS.mkdir(exist_ok=True)
    ready = done(path)
    wanted = [
        job
        for job in jobs(scale)
        if job.key not in ready and study_of(job) in options.studies and job.method in options.methods
    ]
    for job in wanted[: options.most]:
        began = time.perf_counter()
        if options.train:
            train(scale, job.federation)
            print(f"{job.federation.name}: {time.perf_counter() - began:.0f} s", flush=True)
            continue
        try:
            line = measured(scale, job) | told
        except Exception:
            print(f"{job.key} failed:\n{traceback.format_exc()}", flush=True)
            continue
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(
            f"{time.strftime('%H:%M:%S')} {job.federation.name} {job.method} {job.level or ''}: {line['verdict']} "
            f"{line['found'][:2]} of {line['target']}, {line['measures']}, ASR {line['asr']}, "
            f"{line.get('repair')}, {time.perf_counter() - began:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
