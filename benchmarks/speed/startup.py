"""From the shell to a scan's first step: fedmend scan on MNIST beside importing torch; results/startup.json.

    python benchmarks/speed/startup.py

Run detection/train.py first, and this alone. Both are processes of their own, turn by turn, each once before for the
file cache. Start-up is what a scan takes beyond importing torch and beyond the time that its report gives, pair by
pair.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit

BENCHMARKS = Path(__file__).resolve().parents[1]
PATH = BENCHMARKS / "speed" / "results" / "startup.json"
MODELS = BENCHMARKS / "runs" / "detection" / "mnist" / "trunk" / "checkpoints"
SUSPECT, REFERENCE = "round-0020.safetensors", "round-0010.safetensors"


def seconds(
    command: list[str], codes: tuple[int, ...] = (0,), environment: dict[str, str] | None = None
) -> float:
    """How long a process takes from its start to its end."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    taken = time.perf_counter() - started
    if done.returncode not in codes:
        sys.exit(f"exit code {done.returncode} from {' '.join(command)}: {done.stderr}")
    return taken


def turn(models: Path, out: Path) -> tuple[float, float, float]:
    """Seconds of importing torch, of a scan, and of that scan by its own report."""
    program = str(Path(sys.executable).with_name("fedmend"))
    torch = seconds([sys.executable, "-c", "import torch"])
    given = ["--reference", str(models / REFERENCE), "--model", "convnet", "--data", "mnist"]
    scan = [program, "scan", str(models / SUSPECT), *given, "--effort", "quick", "--seed", "0"]
    taken = seconds([*scan, "--out", str(out)], (0, 1, 3))
    report = json.loads((out / "scan.json").read_text(encoding="utf-8"))
    return torch, taken, float(report["seconds"])


def measure(models: Path, pairs: int) -> dict[str, Any]:
    """Both commands' times, and what of a scan's is neither torch nor the scan itself."""
    with tempfile.TemporaryDirectory() as out:
        turns = [turn(models, Path(out)) for _ in range(pairs + 1)][1:]
    return {
        "torch_seconds": summary([torch for torch, _, _ in turns]),
        "scan_seconds": summary([scan for _, scan, _ in turns]),
        "report_seconds": summary([report for _, _, report in turns]),
        "extra_seconds": summary([scan - report - torch for torch, scan, report in turns]),
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
    measured |= {
        "n": options.pairs,
        "models": [SUSPECT, REFERENCE],
        "commit": commit(),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": os.environ.get("OMP_NUM_THREADS", "torch's default"),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
        },
    }
    PATH.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    for name in ("torch_seconds", "scan_seconds", "report_seconds", "extra_seconds"):
        print(f"{name}: {measured[name]['min']:.2f} at best, {measured[name]['median']:.2f} in the median")


if __name__ == "__main__":
    main()
