"""Memory and time of each aggregation rule on a thousand updates that are never in memory together.

    python -m benchmarks.aggregation.memory [--parameters 1000000] [--only median krum]     # from the repository's root

The running means get updates one at a time; the other rules read a mapped file, 4 bytes for each value. Writes
``results/memory.json`` beside this file, rule by rule; what is there already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.commits import commit
from torch import Tensor

from fedmend.aggregation import AGGREGATORS, RunningMean, Updates, aggregator_from_table, mapped_deltas
from fedmend.files import write_text
from fedmend.seeds import generator
from fedmend.version_info import versions

RESULTS = Path(__file__).parent / "results"
CLIENTS, PARAMETERS = 1000, 10_000_000
IN_STREAM = {"running mean": None, "running mean, clipped": 1.0}
NOT_IN_BLOCKS = ("foolsgold", "chain")
"""Their memory grows with clients times parameters: a history of each client, a clipped copy."""


class PeakMemory:
    """The most anonymous memory, in MiB, beyond what was there at first. Pages of a mapped file don't count."""

    def __enter__(self) -> PeakMemory:
        self._before, self.mib, self._ended = _anonymous_mib(), 0.0, threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._ended.wait(0.01):
            self.mib = max(self.mib, _anonymous_mib() - self._before)


def _anonymous_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def update(number: int, common: Tensor) -> Tensor:
    """A client's update: noise that all have in common, and noise of its own on a thousand values."""
    changed = common.clone()
    changed[:1000] += torch.randn(1000, generator=generator(number))
    return changed


def measured(work: Callable[[], object], parameters: int) -> dict[str, Any]:
    started = time.perf_counter()
    with PeakMemory() as peak:
        work()
    return {
        "clients": CLIENTS,
        "parameters": parameters,
        "peak_mib": round(peak.mib, 1),
        "update_mib": round(4 * parameters / 2**20, 1),
        "all_updates_mib": round(4 * parameters * CLIENTS / 2**20, 1),
        "seconds": round(time.perf_counter() - started, 1),
        "commit": commit(),
        "versions": versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
    }


def stream(limit: float | None, size: int) -> None:
    mean = RunningMean(torch.ones(size, dtype=torch.bool), limit)
    common = torch.randn(size, generator=generator(0))
    for number in range(CLIENTS):
        mean.add(update(number, common))
    mean.result()


def in_blocks(name: str, deltas: Tensor) -> None:
    size = deltas.shape[1]
    mask, ones = torch.ones(size, dtype=torch.bool), torch.ones(CLIENTS)
    updates = Updates(deltas, ones, tuple(range(CLIENTS)), mask, deltas[0].clone())
    aggregator_from_table({"kind": name})(updates, {})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--parameters", type=int, default=PARAMETERS // 10, help="of the rules that need a file"
    )
    parser.add_argument("--only", nargs="*", help="rules to measure")
    parser.add_argument(
        "--file", type=Path, help="the mapped file; by default in the folder for temporary files"
    )
    options = parser.parse_args()
    path = RESULTS / "memory.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def note(name: str, work: Callable[[], object], parameters: int) -> None:
        if name not in results and (options.only is None or name in options.only):
            results[name] = measured(work, parameters)
            write_text(path, json.dumps(results, indent=1) + "\n")
            print(name, results[name], flush=True)

    for name, limit in IN_STREAM.items():
        note(name, lambda limit=limit: stream(limit, PARAMETERS), PARAMETERS)
    with tempfile.TemporaryDirectory() as folder:
        size = options.parameters
        deltas = mapped_deltas(options.file or Path(folder) / "deltas", CLIENTS, size)
        common = torch.randn(size, generator=generator(0))
        for number in range(CLIENTS):
            deltas[number] = update(number, common)
        for name in AGGREGATORS:
            if name not in NOT_IN_BLOCKS:
                note(name, lambda name=name: in_blocks(name, deltas), size)


if __name__ == "__main__":
    main()
