"""Time and memory of scans of ImageNet's size, each in a process of its own; results/large.json.

    python benchmarks/speed/large.py --threads 2 --memory 3

The networks have random weights and a head that is fitted to random images of 1,000 classes; the suspect is the
reference with a little noise. So nothing is planted, and what counts is that the scan ends, and in how much memory.
Most classes of such a network can't be reached from any image, so the check that they can be is left out.
Peaks are of the whole process, with both models and the images.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from large_networks import SIDE, ResNet50, ViTB16
from torch import Tensor, nn
from torch.nn.functional import interpolate, one_hot

from fedmend.detection import Case, Differential, differential_scan, scan
from fedmend.files import write_text
from fedmend.inference import batch_size_for
from fedmend.model_cost import multiply_adds

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit

PATH = Path(__file__).resolve().parent / "results" / "large.json"
NETWORKS: dict[str, tuple[type[ResNet50 | ViTB16], int]] = {
    "resnet50": (ResNet50, 400),  # as many images as the command line draws
    "vit-b-16": (ViTB16, 114),
}
CLASSES, RIDGE, NOISE, SCALE = 1000, (1e-8, 1e-2), 1e-3, 20.0


def images_of(count: int) -> Tensor:
    """Random images (N, 3, 224, 224) in [0, 1], smooth but for a little noise."""
    coarse = interpolate(torch.rand(count, 3, 7, 7), size=(SIDE, SIDE), mode="bilinear")
    return (coarse + 0.1 * torch.rand(count, 3, SIDE, SIDE)).clamp(0, 1)


@torch.no_grad()
def fitted(network: ResNet50 | ViTB16, images: Tensor, labels: Tensor) -> nn.Module:
    """The network with a head that gets the images right, by ridge regression on its features.

    Classes without images are fitted to made-up features, so that they can be reached.
    """
    batches = images.split(batch_size_for(images))
    features = torch.cat([network.features(batch) for batch in batches]).double()
    mean, spread = features.mean(0), features.std(0)
    centred = features - mean
    others = sorted(set(range(CLASSES)) - set(labels.tolist()))
    mixed = torch.randn(len(others), len(images), dtype=torch.float64) @ centred / len(images) ** 0.5
    made_up = mixed + spread * torch.randn(len(others), features.shape[1], dtype=torch.float64)
    everything, classes = torch.cat([centred, made_up]), torch.cat([labels, torch.tensor(others)])
    gram = everything @ everything.T
    ridge = torch.tensor(RIDGE, dtype=torch.float64).repeat_interleave(
        torch.tensor([len(images), len(others)])
    )
    gram += gram.diagonal().mean() * ridge.diag()
    weight = SCALE * torch.linalg.solve(gram, one_hot(classes, CLASSES).double()).T @ everything
    network.head.weight.copy_(weight)
    network.head.bias.copy_(-weight @ mean)
    return network


@torch.no_grad()
def noisy(network: nn.Module) -> nn.Module:
    """A copy with a little noise on every weight."""
    copy = deepcopy(network)
    for parameter in copy.parameters():
        parameter += NOISE * parameter.abs().mean() * torch.randn_like(parameter)
    return copy


def measure(name: str, memory: float, threads: int) -> dict[str, Any]:
    """One scan in this process."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    make, count = NETWORKS[name]
    images, labels = images_of(count), torch.randperm(CLASSES)[:count]
    reference = fitted(make(CLASSES).eval(), images, labels)
    suspect = noisy(reference)
    case = Case(suspect, reference, images, labels)
    differential_scan.why_blind = lambda *_: None
    started, used = time.perf_counter(), time.process_time()
    report = scan(case, Differential(memory=int(memory * 2**30)), seed=0)
    finding = report.findings[0]
    return {
        "network": name,
        "images": count,
        "billion_multiply_adds": multiply_adds(reference, images[0]) / 1e9,
        "verdict": report.verdict,
        "reason": report.reason,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - used, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "searched": [each.family for each in finding.coverage if each.searched],
        "accuracies": [report.reference_accuracy, report.suspect_accuracy],
        "notes": list(finding.notes),
        "threads": threads,
        "memory_gib": memory,
        "commit": commit(),
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(NETWORKS)}; all by default")
    parser.add_argument("--memory", type=float, default=3.0, help="of the search, in GiB")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--here", action="store_true", help="measure one in this process and print it")
    parser.add_argument("--out", type=Path, default=PATH)
    options = parser.parse_args()
    for name in options.networks or NETWORKS:
        if options.here:
            print(json.dumps(measure(name, options.memory, options.threads)), flush=True)
            continue
        limits = ["--memory", str(options.memory), "--threads", str(options.threads)]
        done = subprocess.run(
            [sys.executable, __file__, name, "--here", *limits], capture_output=True, text=True, check=True
        )
        file: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
        line = json.loads(done.stdout.splitlines()[-1])
        write_text(options.out, json.dumps(file | {name: line}, indent=1) + "\n")
        print(done.stdout, end="", flush=True)


if __name__ == "__main__":
    main()
