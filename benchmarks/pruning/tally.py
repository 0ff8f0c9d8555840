"""Tally a stream of clients' votes: time a vote, and memory that doesn't grow with the clients.

    python benchmarks/pruning/tally.py --clients 1000000 --channels 512

Ballots are drawn from a pool of 100 different ones; making them isn't timed. Writes results/tally.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import torch
from torch import Tensor

from fedmend.files import write_text
from fedmend.pruning import MajorityVote, RankingVote, bits, ranks
from fedmend.seeds import generator

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit

RESULTS = Path(__file__).parent / "results" / "tally.json"
RATES = (0.3, 0.5, 0.7)


def tally(vote: RankingVote | MajorityVote, ballots: list[Tensor], clients: int) -> dict[str, float]:
    before = resident_mib()
    started = time.perf_counter()
    for client, ballot in enumerate(islice(cycle(ballots), clients)):
        vote.add(client, ballot)
    seconds = time.perf_counter() - started
    assert vote.counted == clients
    return {
        "clients": clients,
        "seconds": seconds,
        "microseconds_a_vote": 1e6 * seconds / clients,
        "mib_beyond": resident_mib() - before,
    }


def resident_mib() -> float:
    """Resident memory now, in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--channels", type=int, default=512)
    options = parser.parse_args()
    torch.set_num_threads(1)
    random = generator(0)
    activations = [torch.rand(options.channels, generator=random) for _ in range(100)]
    votes: dict[str, tuple[Callable[[int], RankingVote | MajorityVote], list[Tensor]]] = {
        "ranking": (lambda count: RankingVote(options.channels, count), [ranks(one) for one in activations]),
        "majority, 3 rates": (
            lambda count: MajorityVote(options.channels, count, len(RATES)),
            [bits(one, RATES) for one in activations],
        ),
    }
    file: dict[str, object] = {
        "channels": options.channels,
        "machine": f"{platform.machine()}, one core",
        "torch": torch.__version__,
        "commit": commit(),
    }
    for name, (make, ballots) in votes.items():
        rows = []
        for clients in (options.clients // 100, options.clients):
            rows.append(tally(make(clients), ballots, clients))
            print(name, rows[-1], flush=True)
        file[name] = rows
    write_text(RESULTS, json.dumps(file, indent=1) + "\n")


if __name__ == "__main__":
    main()
