"""Scan one model with fedmend and print one line of JSON: the counterpart of yardstick.py.

    python benchmarks/speed/ours.py --dataset mnist --model backdoored --threads 1

Models and images are those of worlds.py. ``scan_seconds`` is a first scan in a fresh process, from models and images in
memory to the verdict; ``process_seconds`` adds imports and files.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from typing import Any

STARTED = time.perf_counter()

import torch  # noqa: E402
from memory import forget_peak, peak_mib  # noqa: E402
from worlds import MODELS, WORLDS, World  # noqa: E402
from yardstick import load, read_images  # noqa: E402

from fedmend import DETECTORS, Case, scan  # noqa: E402


def measure(world: World, name: str, method: str, threads: int, seed: int) -> dict[str, Any]:
    """The line that is printed."""
    if threads:
        torch.set_num_threads(threads)
    images, labels = read_images(world.images)
    outputs = int(labels.max()) + 1
    suspect, reference = (
        load(world.checkpoint(each), world.architecture, outputs, images) for each in (name, "reference")
    )
    before = forget_peak()
    ready = time.perf_counter()
    report = scan(Case(suspect, reference, images, labels), DETECTORS[method](), seed=seed)
    ended = time.perf_counter()
    (finding,) = report.findings
    (target,) = finding.targets
    assert target.trigger is not None
    return {
        "dataset": world.source,
        "model": name,
        "method": method,
        "seed": seed,
        "images": list(images.shape),
        "outputs": outputs,
        "scan_seconds": ended - ready,
        "process_seconds": ended - STARTED,
        "verdict": report.verdict,
        "target_class": target.target,
        "reasr": target.success,
        "mask_norm": target.trigger.size,
        "steps": len(finding.loss_curve),
        "memory_mib": None if before is None else peak_mib() - before,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True, choices=WORLDS)
    parser.add_argument("--model", required=True, choices=MODELS)
    parser.add_argument("--method", default="contrastive", choices=DETECTORS)
    parser.add_argument("--threads", type=int, default=0, help="else torch's own choice")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    line = measure(WORLDS[options.dataset], options.model, options.method, options.threads, options.seed)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
