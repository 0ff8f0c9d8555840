"""From the shell to a verdict: fedmend scan on MNIST beside importing torch; results/startup.json.

    python benchmarks/speed/startup.py

Run detection/train.py first, and this alone. Both are processes of their own, turn by turn, each once before for the
file cache; the extra time is taken pair by pair. Beside it stands the extra time of processors, which what else runs on
the machine changes less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
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


def seconds(
    command: list[str], codes: tuple[int, ...] = (0,), environment: dict[str, str] | None = None
) -> tuple[float, float]:
    """How long a process takes from its start to its end, and how long it keeps processors busy."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    taken, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in codes:
        sys.exit(f"exit code {done.returncode} from {' '.join(command)}: {done.stderr}")
    return taken, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


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
            "--seed",
            "0",
            "--out",
            out,
        ]
        scan = [program, "scan", str(models / SUSPECT), *given]
        turns = [(*seconds(torch), *seconds(scan, (0, 1, 3))) for _ in range(pairs + 1)][1:]
    return {
        "torch_seconds": summary([torch for torch, _, _, _ in turns]),
        "scan_seconds": summary([scan for _, _, scan, _ in turns]),
        "extra_seconds": summary([scan - torch for torch, _, scan, _ in turns]),
        "extra_processor_seconds": summary([scan - torch for _, torch, _, scan in turns]),
        "turns": turns,
    }


def summary(values: list[float]) -> dict[str, float]:
    """The least and the middle of so many."""
    return {"min": min(values), "median": median(values)}


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
            "threads": os.environ.get("OMP_NUM_THREADS", "torch's default"),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
        },
    }
    PATH.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    for name in ("torch_seconds", "scan_seconds", "extra_seconds", "extra_processor_seconds"):
        print(f"{name}: {measured[name]['min']:.2f} at best, {measured[name]['median']:.2f} in the median")


if __name__ == "__main__":
    main()
