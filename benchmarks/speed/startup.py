"""From the shell to a verdict: fedmend scan on MNIST beside importing torch; results/startup.json.

    python benchmarks/speed/startup.py

Run detection/train.py first, and this alone. Both are processes of their own, turn by turn, each once before for the
file cache; the extra time is taken pair by pair.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

BENCHMARKS = Path(__file__).resolve().parents[1]
PATH = BENCHMARKS / "speed" / "results" / "startup.json"
MODELS = BENCHMARKS / "runs" / "detection" / "mnist" / "trunk" / "checkpoints"
SUSPECT, REFERENCE = "round-0020.safetensors", "round-0010.safetensors"


def seconds(command: list[str], codes: tuple[int, ...] = (0,)) -> float:
    """How long a process takes, from its start to its end."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - started
    if done.returncode not in codes:
        sys.exit(f"exit code {done.returncode} from {' '.join(command)}: {done.stderr}")
    return taken


def measure(models: Path, pairs: int) -> dict[str, Any]:
    """Both commands' times, and how much longer a scan took."""
    torch = [sys.executable, "-c", "import torch"]
    program = str(Path(sys.executable).with_name("fedmend"))
    with tempfile.TemporaryDirectory() as out:
        given = [
            "--reference",
            str(models / REFERENCE),
            "--model",
            "convnet",
            "--data",
            "mnist",
            "--out",
            out,
        ]
        scan = [program, "scan", str(models / SUSPECT), *given]
        turns = [(seconds(torch), seconds(scan, (0, 1, 3))) for _ in range(pairs + 1)][1:]
    extra = [after - before for before, after in turns]
    return {
        "torch_seconds": {"min": min(t for t, _ in turns), "median": median(t for t, _ in turns)},
        "scan_seconds": {"min": min(s for _, s in turns), "median": median(s for _, s in turns)},
        "extra_seconds": {"min": min(extra), "median": median(extra)},
        "turns": turns,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the federation's checkpoints")
    parser.add_argument("--pairs", type=int, default=10)
    options = parser.parse_args()
    measured = measure(options.models, options.pairs)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=BENCHMARKS, check=True
    )
    measured |= {
        "n": options.pairs,
        "models": [SUSPECT, REFERENCE],
        "commit": commit.stdout.strip(),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
        },
    }
    PATH.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    for name in ("torch", "scan", "extra"):
        least, middle = measured[f"{name}_seconds"].values()
        print(f"{name}: {least:.2f} s at best, {middle:.2f} s in the median")


if __name__ == "__main__":
    main()
