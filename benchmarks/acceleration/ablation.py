"""What each part of fedmend.acceleration gains on the passes of a scan; results/ablation.json.

    python benchmarks/acceleration/ablation.py            # all models; about ten minutes
    python benchmarks/acceleration/ablation.py mnist      # one of them

Accelerated models, one with every part and for each part one without it, are timed in turn, on one thread, for many
rounds: in each, some passes of a scan's exploration (20 images, forward and back to the pixels), refinement (8 images,
the same) and judging (48 images, forward). Weights are random; a pass takes as long with any others. A round's ratio
is the user CPU time without the part over that with all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from fedmend.acceleration import SWITCH, accelerate
from fedmend.files import write_text
from fedmend.models import convnet, resnet18, resnet34
from fedmend.seeds import generator

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit

PATH = Path(__file__).resolve().parent / "results" / "ablation.json"
DOOR = "fedmend.acceleration.accelerating"
EXPLORE, REFINE, JUDGE = (5, 20), (7, 8), (2, 48)
"""How many passes on how many images: about a fifth of a clean model's scan."""

MODELS: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, int, int], int]] = {
    "mnist": (convnet, (1, 28, 28), 100),
    "cifar10-narrow": (lambda: resnet18(width=16), (3, 32, 32), 30),
    "cifar10": (resnet18, (3, 32, 32), 7),
    "gtsrb": (resnet34, (3, 32, 32), 15),
}
"""A factory, the images' shape, and how many rounds."""


def _same(model: nn.Module, *_arguments: object, **_settings: object) -> nn.Module:
    return model


PARTS: Mapping[str, Callable[[], Any]] = {
    "folding": lambda: mock.patch(f"{DOOR}.folded", _same),
    "half precision": lambda: mock.patch(f"{DOOR}.gains_by_halving", return_value=False),
    "packing": lambda: mock.patch(f"{DOOR}.packed", _same),
    "joining": lambda: mock.patch(f"{DOOR}.joined", _same),
    "all": lambda: mock.patch.dict(os.environ, {SWITCH: "off"}),
}


def settled(model: nn.Module) -> nn.Module:
    """In eval mode, frozen, each BatchNorm with statistics, weights and offsets of its own."""
    numbers = generator(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                assert values is not None
                values.data = 0.5 + torch.rand(values.shape, generator=numbers)
    return model.eval().requires_grad_(False)


def passes(model: nn.Module, images: Tensor) -> None:
    """The passes of a scan."""
    for steps, count in (EXPLORE, REFINE):
        for _ in range(steps):
            pixels = images[:count].clone().requires_grad_()
            torch.autograd.grad(model(pixels).logsumexp(1).sum(), pixels)
    with torch.no_grad():
        for _ in range(JUDGE[0]):
            model(images[: JUDGE[1]])


def timed(model: nn.Module, images: Tensor) -> tuple[float, float]:
    """User CPU time and wall time of the passes, in seconds."""
    user, wall = resource.getrusage(resource.RUSAGE_SELF).ru_utime, time.perf_counter()
    passes(model, images)
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime - user, time.perf_counter() - wall


@contextmanager
def leaving_out(*parts: str) -> Iterator[None]:
    with ExitStack() as stack:
        for part in parts:
            stack.enter_context(PARTS[part]())
        yield


def made(name: str, images: Tensor, *without: str, half: bool) -> nn.Module:
    """The accelerated model without these parts, after one round of passes, which pack its weights."""
    torch.manual_seed(0)
    model = settled(MODELS[name][0]())
    with leaving_out(*without):
        model = accelerate(model, images, half=half).model
        passes(model, images)
    return model


def compare(name: str, rounds: int, *, half: bool) -> dict[str, Any]:
    """For each part, ratios of the time without it to the time with all parts; and the latter, in seconds."""
    images = torch.rand(48, *MODELS[name][1], generator=generator(0))
    parts = [part for part in PARTS if half or part != "half precision"]
    models = {None: made(name, images, half=half)}
    models |= {part: made(name, images, part, half=half) for part in parts}
    times = [{part: timed(model, images) for part, model in models.items()} for _ in range(rounds)]
    rows: dict[str, Any] = {"seconds": median(each[None][0] for each in times), "rounds": rounds}
    for part in parts:
        ratios = [each[part][0] / each[None][0] for each in times]
        low, middle, high = quantiles(ratios, n=4)
        rows[part] = {
            "median": middle,
            "quartiles": [low, high],
            "least_times": min(each[part][0] for each in times) / min(each[None][0] for each in times),
            "wall_median": median(each[part][1] / each[None][1] for each in times),
        }
    return rows


def machine() -> dict[str, Any]:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "machine": f"{cpu}, {os.cpu_count()} cores, {platform.machine()}, 1 thread",
        "torch": torch.__version__,
        "commit": commit(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="model", help=f"of {', '.join(MODELS)}; all by default")
    parser.add_argument("--rounds", type=int, help="default: by the model's size")
    options = parser.parse_args()
    torch.set_num_threads(1)
    file: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}
    for name in options.models or MODELS:
        rounds = options.rounds or MODELS[name][2]
        for half, key in ((True, "bfloat16 allowed"), (False, "float32 only")):
            file.setdefault(key, {})[name] = compare(name, rounds, half=half) | machine()
            print(name, key, json.dumps(file[key][name], indent=1), flush=True)
            write_text(PATH, json.dumps(file, indent=1) + "\n")


if __name__ == "__main__":
    main()
