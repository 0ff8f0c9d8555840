"""A small scan on an idle machine and beside one busy process, in one run; results/threads.json.

    python benchmarks/speed/threads.py

Run this alone. Two ConvNets are trained on MNIST for some seconds. Then fedmend scan runs in processes of its own, turn
by turn: alone and beside a process that keeps one core busy, with the threads that the command chooses and, for
comparison, with one for every core. Each runs once before for the file cache. The load of the machine before each scan
is kept, since only on a machine that is idle otherwise do the ratios mean what they say.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from startup import seconds

from fedmend.checkpoints import save_state
from fedmend.data import load_images
from fedmend.files import write_text
from fedmend.local_training import LocalTraining
from fedmend.models import build_model

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit

ROOT = Path(__file__).resolve().parents[2]
PATH = Path(__file__).resolve().parent / "results" / "threads.json"
TRAINING = LocalTraining(epochs=1, images_per_epoch=10_000)
BUSY = "while True: pass"
CHOSEN, ALL = "chosen", "one a core"


def train(folder: Path) -> None:
    """Save a ConvNet after one short epoch as the reference, and after another as the suspect."""
    images = load_images("mnist", "train")
    model = build_model("convnet", num_classes=10, in_channels=1, image_size=(28, 28), seed=0)
    for seed, name in enumerate(("reference", "suspect")):
        TRAINING(model, images.images, images.labels, seed)
        save_state(model.state_dict(), folder / f"{name}.safetensors")


@contextmanager
def other_work(processes: int) -> Iterator[None]:
    """Within, so many processes keep a core busy each."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for each in started:
            each.kill()
            each.wait()


def scan_seconds(folder: Path, threads: str) -> float:
    """From the shell to the verdict."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if threads == ALL:
        environment["OMP_NUM_THREADS"] = str(os.cpu_count())
    given = ["--reference", str(folder / "reference.safetensors"), "--model", "convnet", "--data", "mnist"]
    fixed = ["--seed", "0", "--out", str(folder / "out"), "--overwrite"]
    command = [sys.executable, "-m", "fedmend", "scan", str(folder / "suspect.safetensors"), *given, *fixed]
    return seconds(command, (0, 1, 3), environment)


def measure(turns: int) -> dict[str, Any]:
    """Every scan's time, and for each choice of threads the median ratio of busy to idle, turn by turn."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        train(folder)
        for turn in range(turns + 1):
            for threads in (CHOSEN, ALL):
                for busy in (0, 1):
                    load = os.getloadavg()[0]
                    with other_work(busy):
                        taken = scan_seconds(folder, threads)
                    row = {"turn": turn, "threads": threads, "busy": busy, "load_before": load}
                    rows.append(row | {"seconds": taken})
    rows = [row for row in rows if row["turn"]]
    ratios = {
        threads: median(
            times[1] / times[0] for turn in range(1, turns + 1) for times in [_times(rows, turn, threads)]
        )
        for threads in (CHOSEN, ALL)
    }
    return {"n": turns, "ratios": ratios, "rows": rows}


def _times(rows: list[dict[str, Any]], turn: int, threads: str) -> list[float]:
    """Idle, then busy."""
    return [row["seconds"] for row in rows if (row["turn"], row["threads"]) == (turn, threads)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, default=PATH)
    options = parser.parse_args()
    measured = measure(options.turns)
    measured |= {
        "commit": commit(),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
    }
    write_text(options.out, json.dumps(measured, indent=1) + "\n")
    for threads, ratio in measured["ratios"].items():
        times = [
            median(
                row["seconds"] for row in measured["rows"] if (row["threads"], row["busy"]) == (threads, busy)
            )
            for busy in (0, 1)
        ]
        print(
            f"threads {threads}: {times[0]:.1f} s idle, {times[1]:.1f} s beside one process, {ratio:.2f} times"
        )


if __name__ == "__main__":
    main()
