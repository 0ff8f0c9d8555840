"""Does each attack reach, in a setting small enough for a CPU, the effect that its paper reports?

    python -m benchmarks.attacks.effects [--only neurotoxin fang-krum]     # from the repository's root

Writes ``results/effects.json`` beside this file, run by run; what is there already is not measured again. With
``--development``, cells run on the seed that settings are chosen on, and nothing is kept. Runs go to ``runs/``. Set
FEDMEND_DATA to read the datasets from parquet files instead of the hub.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import time
from typing import Any

import torch
from benchmarks.attacks.cells import CELLS
from benchmarks.attacks.setting import DEVELOPMENT, SEEDS, Cell
from benchmarks.attacks.start import RUNS, images, pre_trained
from benchmarks.attacks.targets import PATH, load
from benchmarks.commits import commit

from fedmend import simulate
from fedmend.federation import RunFolder, parse_config
from fedmend.files import write_text
from fedmend.version_info import versions


def run(name: str, settings: dict[str, Any]) -> RunFolder:
    """A cell's federation, from its first round."""
    folder = RUNS / name
    shutil.rmtree(folder, ignore_errors=True)
    _, clients, measured = images()
    return simulate(parse_config(settings), folder, data=(clients, measured))


def measure(name: str, cell: Cell, seed: int) -> dict[str, Any]:
    """Accuracy and ASR by round, from the pre-trained model on, and the honest federation's if that is compared."""
    began, start = time.perf_counter(), pre_trained(seed)
    told = {"seed": seed, "commit": commit(), "versions": versions()}
    attacked = run(f"{name}-{seed}", cell.settings(seed, str(start)))
    found = {
        "accuracy": [record.accuracy for record in attacked.records()],
        "asr": [record.asr[0] for record in attacked.attacker.records()],
    }
    if cell.effect == "accuracy lost":
        other = run(f"{name}-{seed}-honest", cell.settings(seed, str(start), honest=True))
        found["honest_accuracy"] = [record.accuracy for record in other.records()]
    return (
        told
        | found
        | {
            "settings": cell.settings(seed, start.name),
            "seconds": round(time.perf_counter() - began, 1),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=CELLS, metavar="CELL", help="cells to measure, in this order"
    )
    parser.add_argument("--development", action="store_true", help=f"on seed {DEVELOPMENT}; keep nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in (DEVELOPMENT,) if options.development else SEEDS:
        for name in options.only or CELLS:
            results = load()
            if seed in {row["seed"] for row in results.get(name, [])}:
                continue
            row = measure(name, CELLS[name], seed)
            print(
                name, seed, {key: row.get(key) for key in ("accuracy", "asr", "honest_accuracy")}, flush=True
            )
            if not options.development:
                results.setdefault(name, []).append(row)
                write_text(PATH, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
