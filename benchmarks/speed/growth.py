"""How a scan's time and memory grow with classes, image size and model size; results/growth.json.

    python benchmarks/speed/growth.py --repeats 3

Random weights, suspect and reference alike, 30 images: a scan of a clean model, which is the usual one and takes the
same steps whatever the model. Each point is the median of so many scans in a process of its own with one thread; the
points take turns. Run it alone.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
from memory import forget_peak, peak_mib

from fedmend import DETECTORS, Case
from fedmend.files import write_text
from fedmend.models import ResNet
from fedmend.progress import silent
from fedmend.seeds import generator

HERE = Path(__file__).resolve().parent
PATH = HERE / "results" / "growth.json"
METHOD = "differential"
IMAGES = 30
BASE = {"classes": 10, "size": 32, "width": 16}
AXES: dict[str, tuple[int, ...]] = {
    "classes": (10, 43, 200, 1000),
    "size": (28, 56, 112, 224),
    "width": (8, 16, 32, 64),
}


def measure(classes: int, size: int, width: int) -> dict[str, float]:
    """One scan of a residual network of 18 layers with a 7x7 stem."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = ResNet((2, 2, 2, 2), classes, 3, width, imagenet_stem=True).eval().requires_grad_(False)
    images = torch.rand(IMAGES, 3, size, size, generator=generator(0, "images"))
    labels = torch.arange(IMAGES) % min(classes, IMAGES)
    before = forget_peak()
    started = time.perf_counter()
    # The detector itself: a scan refuses a model that is its own reference, and doesn't search untrained ones.
    DETECTORS[METHOD]()(Case(model, model, images, labels), generator(0, "scan"), silent)
    seconds = time.perf_counter() - started
    parameters = sum(each.numel() for each in model.parameters())
    memory = math.nan if before is None else peak_mib() - before
    return {"seconds": seconds, "memory_mib": memory, "parameters": parameters}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--point", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure(*options.point)))
        return
    points = {
        (axis, value): BASE | {axis: value, "samples": []}
        for axis, values in AXES.items()
        for value in values
    }
    for _ in range(options.repeats):
        for (axis, value), row in points.items():
            command = [sys.executable, __file__, "--point", *(str(row[key]) for key in BASE)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            row["samples"].append(json.loads(done.stdout))
            print(axis, value, f"{row['samples'][-1]['seconds']:.2f} s", flush=True)
    for row in points.values():
        samples = row.pop("samples")
        row |= {key: median(sample[key] for sample in samples) for key in samples[0]}
    axes = {axis: [points[axis, value] for value in values] for axis, values in AXES.items()}
    machine = {
        "machine": f"{platform.machine()}, one core",
        "torch": torch.__version__,
        "repeats": options.repeats,
        "method": METHOD,
    }
    write_text(PATH, json.dumps({"axes": axes} | machine, indent=1) + "\n")


if __name__ == "__main__":
    main()
