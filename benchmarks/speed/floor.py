"""The floor of the time per scan: its floating-point operations at the machine's best rate; results/floor.json.

    python benchmarks/speed/floor.py

Run train.py first, and nothing beside this. torch's own counter counts the operations of a whole scan. The best rate is
that of multiplying two 1,024 by 1,024 matrices, on one thread, in the search's precision. The same scan without the
counter, the median of several, is compared with the floor.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode
from worlds import MODELS, WORLDS, World
from yardstick import load, read_images

from fedmend import Case, scan
from fedmend.files import write_text

PATH = Path(__file__).resolve().parent / "results" / "floor.json"
SIDE = 1024
UNPACKED = mock.patch(  # the counter doesn't know private operators
    "fedmend.acceleration.accelerating.packed", lambda model, layout: model
)


def best_rate(dtype: torch.dtype, repeats: int = 20) -> float:
    """Floating-point operations per second of a matrix product, the best of several."""
    left, right = torch.rand(2, SIDE, SIDE).to(dtype)
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - started)
    return 2 * SIDE**3 / min(times[1:])


def measure(world: World, name: str, repeats: int) -> dict[str, Any]:
    """One model's row."""
    images, labels = read_images(world.images)
    suspect, reference = (
        load(world.checkpoint(each), world.architecture, int(labels.max()) + 1, images)
        for each in (name, "reference")
    )
    case = Case(suspect, reference, images, labels)
    with UNPACKED, FlopCounterMode(display=False) as counter:
        report = scan(case, seed=0)
    operations = counter.get_total_flops()
    times = [scan(case, seed=0).seconds for _ in range(repeats)]
    dtype = (
        torch.bfloat16
        if any("searched in bfloat16" in note for note in report.findings[0].notes)
        else torch.float32
    )
    rate = best_rate(dtype)
    return {
        "operations": operations,
        "precision": str(dtype).removeprefix("torch."),
        "best_rate": rate,
        "floor_seconds": operations / rate,
        "seconds": median(times),
        "verdict": report.verdict,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "worlds", nargs="*", metavar="dataset", help=f"of {', '.join(WORLDS)}; all by default"
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    file: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}
    for dataset in options.worlds or WORLDS:
        for name in MODELS:
            file.setdefault("models", {})[f"{dataset}, {name}"] = measure(
                WORLDS[dataset], name, options.repeats
            )
            file |= {"machine": f"{platform.machine()}, 1 thread", "torch": torch.__version__}
            write_text(PATH, json.dumps(file, indent=1) + "\n")
            print(dataset, name, file["models"][f"{dataset}, {name}"], flush=True)


if __name__ == "__main__":
    main()
