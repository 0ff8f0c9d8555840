"""Run TrojanZoo's Neural Cleanse, TABOR or DeepInspect on one model and print one line of JSON.

    sh benchmarks/speed/setup_yardstick.sh
    benchmarks/runs/yardstick-env/bin/python benchmarks/speed/yardstick.py --method neural-cleanse --threads 1 \\
        --checkpoint model.safetensors --architecture convnet --images images.safetensors

The images' file (.safetensors or .npz) holds ``images``, uint8 (N, C, H, W), and ``labels``, int64 (N,). With fewer
epochs than 500 or fewer classes than all, the line says ``"complete": false``, holds no verdict, and has what a full
run would take by extrapolation. What TrojanZoo prints goes to the standard error.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 500
NAMES = ("neural-cleanse", "tabor", "deep-inspect")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The line that is printed."""
    started = time.perf_counter()
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    from memory import forget_peak, peak_mib
    from peers import SEED, SETTINGS, VERSION, inspect

    images, labels = read_images(options.images)
    outputs = options.outputs or int(labels.max()) + 1
    classes = min(options.classes or outputs, outputs)
    model = load(options.checkpoint, options.architecture, outputs, images)

    before = forget_peak()
    ready, ready_cpu = time.perf_counter(), time.process_time()
    found = inspect(options.method, model, (images / 255, labels), outputs, options.epochs, classes)
    ended, ended_cpu = time.perf_counter(), time.process_time()
    memory = None if before is None else peak_mib() - before

    complete = classes == outputs and options.epochs >= EPOCHS
    optimization = sum(found.seconds)
    return {
        "yardstick": f"trojanzoo {VERSION}",
        "method": options.method,
        "settings": {"epochs": options.epochs, "seed": SEED, **SETTINGS.get(options.method, {})},
        "architecture": options.architecture,
        "checkpoint": options.checkpoint.name,
        "images": list(images.shape),
        "classes": classes,
        "outputs": outputs,
        "complete": complete,
        "optimization_seconds": optimization,
        "scan_seconds": ended - ready,
        "scan_cpu_seconds": ended_cpu - ready_cpu,
        "process_seconds": ended - started,
        "extrapolated_seconds": None if complete else optimization / sum(found.epochs) * EPOCHS * outputs,
        "verdict": ("backdoored" if found.flagged else "clean") if complete else None,
        "flagged": found.flagged if complete else None,
        "judged_by": found.judged_by,
        "anomaly": found.anomaly if complete else None,
        "mask_norms": found.mask_norms,
        "pattern_norms": found.pattern_norms,
        "asr": found.asr,
        "epochs": found.epochs,
        "class_seconds": found.seconds,
        "memory_mib": memory,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def read_images(path: Path) -> tuple[Tensor, Tensor]:
    """Images and labels as they are in the file."""
    import numpy as np
    import torch
    from safetensors.torch import load_file

    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            images, labels = (torch.from_numpy(file[name]) for name in ("images", "labels"))
    else:
        images, labels = (load_file(path)[name] for name in ("images", "labels"))
    if (
        images.dtype != torch.uint8
        or images.ndim != 4
        or labels.dtype != torch.int64
        or len(images) != len(labels)
    ):
        sys.exit(
            f"{path}: expected images of uint8 (N, C, H, W) and labels of int64 (N,), got {images.dtype} "
            f"{tuple(images.shape)} and {labels.dtype} {tuple(labels.shape)}"
        )
    return images, labels


def load(path: Path, architecture: str, outputs: int, images: Tensor) -> nn.Module:
    """A model in evaluation mode, in fedmend's architecture or another's (``package.module:factory``)."""
    sys.path.insert(0, str(ROOT / "src"))
    from fedmend import build_model, load_checkpoint

    _, channels, height, width = images.shape
    model = build_model(
        architecture, num_classes=outputs, in_channels=channels, image_size=(height, width), seed=0
    )
    load_checkpoint(path, model)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", required=True, choices=NAMES)
    parser.add_argument("--checkpoint", required=True, type=Path, help="the model's weights")
    parser.add_argument(
        "--architecture", required=True, help="a name of fedmend's, or package.module:factory"
    )
    parser.add_argument("--images", required=True, type=Path)
    parser.add_argument(
        "--outputs", type=int, help="the model's number of classes; else the highest label and 1"
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="at most so many a class (%(default)s)")
    parser.add_argument("--classes", type=int, help="only the first so many")
    parser.add_argument("--threads", type=int, help="else torch's own choice")
    options = parser.parse_args()
    with redirect_stdout(sys.stderr):
        line = measure(options)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
