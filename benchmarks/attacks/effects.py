"""Does each attack reach, in a setting small enough for a CPU, the kind of effect that its paper reports?

    python -m benchmarks.attacks.effects [--only neurotoxin fang-krum]     # from the repository's root

Honest rounds first train a model that all cells start from. Writes ``results/effects.json`` beside this file, cell by
cell; what is there already is not measured again. Runs go to ``runs/``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.attacks.cells import CELLS, HONEST_ROUNDS, Cell, base
from benchmarks.commits import commit

from fedmend import simulate
from fedmend.data import load_images
from fedmend.federation import RunFolder, parse_config
from fedmend.files import write_text
from fedmend.version_info import versions

HERE = Path(__file__).parent
RUNS, RESULTS = HERE.parent / "runs" / "attacks", HERE / "results" / "effects.json"


def honest_start() -> Path:
    """The checkpoint that all cells start from."""
    folder = RUNS / "honest"
    config = parse_config(base(HONEST_ROUNDS))
    return simulate(config, folder, resume=True, data=data()).checkpoint(HONEST_ROUNDS)


def data() -> Any:
    return load_images("fashion-mnist-sample", "train"), load_images("fashion-mnist-sample", "test")


def run(name: str, settings: dict[str, Any]) -> RunFolder:
    folder = RUNS / name
    shutil.rmtree(folder, ignore_errors=True)
    return simulate(parse_config(settings), folder, data=data())


def measured(name: str, cell: Cell, start: Path) -> dict[str, Any]:
    """Accuracy and ASR at the end, and what they are compared with."""
    started = time.perf_counter()
    attacked = run(name, cell.settings(start))
    records, asr = attacked.records(), [record.asr[0] for record in attacked.attacker.records()]
    found = {
        "rounds": len(asr) - 1,
        "accuracy": records[-1].accuracy,
        "accuracy_before": records[0].accuracy,
        "asr": asr[-1],
        "asr_before": asr[0],
        "asr_by_round": asr,
    }
    if cell.compared:
        other = run(f"{name}-compared", cell.settings(start, compared=True))
        found["compared_accuracy"] = other.records()[-1].accuracy
        found["compared_asr"] = [each.asr[0] for each in other.attacker.records()][-1:]
    return found | {
        "settings": cell.settings(Path("honest")),
        "seconds": round(time.perf_counter() - started, 1),
        "commit": commit(),
        "versions": versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", help="cells to measure")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    start = honest_start()
    for name, cell in CELLS.items():
        if name not in results and (options.only is None or name in options.only):
            results[name] = measured(name, cell, start)
            write_text(RESULTS, json.dumps(results, indent=1) + "\n")
            kept = ("accuracy_before", "accuracy", "asr_before", "asr", "compared_accuracy", "seconds")
            print(name, {key: results[name].get(key) for key in kept}, flush=True)


if __name__ == "__main__":
    main()
