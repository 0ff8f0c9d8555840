"""How the default scan's time and memory grow with classes, image size and model size; results/growth.json.

    python benchmarks/speed/growth.py classes         # 10 to 1,000 classes
    python benchmarks/speed/growth.py size width      # image side, model size

A residual network with random weights, and a last layer that tells made-up images apart; the suspect is the
reference with a little noise. So nothing is planted, and every family is searched for which there are images. Many
classes of such a network can't be reached from any image, so the check that they can be is left out. The scan gets
as many images as the command line draws. Each point is the median of so many scans in a process of its own with one
thread; the points take turns. Time is the processor's, which other work on the machine changes less than the
clock's. What has been measured of an axis is replaced.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path
from statistics import median
from typing import Any

import torch
from memory import forget_peak, peak_mib
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fedmend import DETECTORS, Case
from fedmend.detection import differential_scan
from fedmend.files import write_text
from fedmend.models import ResNet
from fedmend.progress import silent
from fedmend.seeds import generator

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit

HERE = Path(__file__).resolve().parent
PATH = HERE / "results" / "growth.json"
METHOD = "differential"
BASE = {"classes": 10, "size": 32, "width": 16}
AXES: dict[str, tuple[int, ...]] = {
    "classes": (10, 43, 200, 1000),
    "size": (28, 56, 112, 224),
    "width": (8, 16, 32, 64),
}
COARSE, NOISE = 7, 1e-3


def image_count(classes: int) -> int:
    """As many as the command line draws by default."""
    return max(min(40 * classes, 600), min(3 * classes, 1000))


def images_of(classes: int, size: int) -> tuple[Tensor, Tensor]:
    """Random smooth images (N, 3, size, size) in [0, 1], one picture a class with a little noise, and labels."""
    labels = torch.arange(image_count(classes)) % classes
    pictures = torch.rand(classes, 3, COARSE, COARSE, generator=generator(0, "pictures"))[labels]
    smooth = interpolate(pictures, size=(size, size), mode="bilinear")
    noise = torch.rand(smooth.shape, generator=generator(0, "noise"))
    return (0.9 * smooth + 0.1 * noise).clamp(0, 1), labels


@torch.no_grad()
def network(images: Tensor, labels: Tensor, classes: int, width: int) -> nn.Module:
    """An 18-layer network with a 7x7 stem that predicts the class with the nearest mean of the features.

    Classes without images get made-up means.
    """
    torch.manual_seed(0)
    model = ResNet((2, 2, 2, 2), classes, 3, width, imagenet_stem=True).eval().requires_grad_(False)
    head, model.fc = model.fc, nn.Identity()
    features = torch.cat([model(batch) for batch in images.split(50)])
    mean, spread = features.mean(0), features.std(0) + 1e-6
    centres = torch.randn(classes, len(mean), generator=generator(0, "centres"))
    for label in labels.unique().tolist():
        centres[label] = ((features[labels == label] - mean) / spread).mean(0)
    head.weight.copy_(centres / spread)
    head.bias.copy_(-centres.square().sum(1) / 2 - head.weight @ mean)
    model.fc = head
    return model


@torch.no_grad()
def noisy(model: nn.Module) -> nn.Module:
    """A copy with a little noise on every weight."""
    copy = deepcopy(model)
    for parameter in copy.parameters():
        noise = torch.randn(parameter.shape, generator=generator(parameter.numel(), "weights"))
        parameter += NOISE * parameter.abs().mean() * noise
    return copy


def measure(classes: int, size: int, width: int) -> dict[str, Any]:
    """One scan."""
    torch.set_num_threads(1)
    images, labels = images_of(classes, size)
    reference = network(images, labels, classes, width)
    case = Case(noisy(reference), reference, images, labels)
    differential_scan.why_blind = lambda *_: None
    before = forget_peak()
    started = time.process_time()
    finding = DETECTORS[METHOD]()(case, generator(0, "scan"), silent)
    seconds = time.process_time() - started
    return {
        "images": len(images),
        "seconds": seconds,
        "memory_mib": math.nan if before is None else peak_mib() - before,
        "parameters": sum(each.numel() for each in reference.parameters()),
        "accuracy": float((case.reference_logits.argmax(1) == labels).float().mean()),
        "verdict": finding.verdict,
        "searched": [each.family for each in finding.coverage if each.searched],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("axes", nargs="*", metavar="axis", help=f"of {', '.join(AXES)}; all by default")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--point", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure(*options.point)))
        return
    chosen = options.axes or list(AXES)
    points: dict[tuple[str, int], list[dict[str, Any]]] = {
        (axis, value): [] for axis in chosen for value in AXES[axis]
    }
    for _ in range(options.repeats):
        for (axis, value), samples in points.items():
            settings = BASE | {axis: value}
            command = [sys.executable, __file__, "--point", *(str(settings[key]) for key in BASE)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            samples.append(json.loads(done.stdout))
            print(axis, value, samples[-1], flush=True)
    file: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {"axes": {}}
    for axis in chosen:
        file["axes"][axis] = [BASE | {axis: value} | _middle(points[axis, value]) for value in AXES[axis]]
    file |= {
        "machine": f"{platform.machine()}, one core",
        "torch": torch.__version__,
        "repeats": options.repeats,
        "method": METHOD,
        "commit": commit(),
    }
    write_text(PATH, json.dumps(file, indent=1) + "\n")


def _middle(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """The last sample, with the medians of time and memory."""
    return samples[-1] | {key: median(each[key] for each in samples) for key in ("seconds", "memory_mib")}


if __name__ == "__main__":
    main()
