"""TrojanZoo's Neural Cleanse beside the default scan, on the same models and images; results/yardstick.json.

    sh benchmarks/speed/setup_yardstick.sh
    python benchmarks/zoo/yardstick.py turns     # times: three models of each of three cells, twice each, in turns
    python benchmarks/zoo/yardstick.py sample    # verdicts: twenty models of the cells of ten classes

Each run is a process of its own with one thread; run it alone. Neural Cleanse runs to its own end. With 43 classes it
does so for two of them, and the rest is extrapolated; then there is no verdict. What has been measured is kept.
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
from typing import Any

import torch
from cells import CELLS
from evaluate import images_per_class, in_turns, wanted
from load import RUNS, Item, items
from safetensors.torch import save_file

from fedmend import Case, scan
from fedmend.detection import Differential
from fedmend.files import write_text

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit

HERE = Path(__file__).resolve().parent
PATH = HERE / "results" / "yardstick.json"
BENCHMARKS = HERE.parent
PYTHON = BENCHMARKS / "runs" / "yardstick-env" / "bin" / "python"
TIMED = ("mnist-convnet", "cifar-resnet18", "gtsrb-vgg")
TIMED_MODELS = (("backdoored", "patch-3"), ("backdoored", "blend"), ("clean", "rounds"))
REPEATS = 2
SAMPLE_CELLS = ("mnist-convnet", "mnist-groupnorm", "fashion-three-conv", "cifar-resnet18", "cifar-vit")
SAMPLE = {"backdoored": 3, "clean": 1}
"""Models of each cell."""
FEW_CLASSES, MANY = 2, 20
"""Of a model with more than so many classes, so many are searched and the rest extrapolated."""


def ours(item: Item, seed: int) -> dict[str, Any]:
    """A scan in a process of its own: its first, as Neural Cleanse's is."""
    command = [sys.executable, str(Path(__file__).resolve()), "scan", "--item", item.cell, item.name]
    return line_of([*command, "--seed", str(seed)])


def scanned(item: Item, seed: int) -> dict[str, Any]:
    """What :func:`ours` prints."""
    torch.set_num_threads(1)
    suspect, reference = item.models()
    images, labels = item.images(images_per_class(item, "differential"), seed)
    started = time.perf_counter()
    report = scan(Case(suspect, reference, images, labels), Differential(), seed=seed)
    seconds = time.perf_counter() - started
    named = [each.target for each in report.findings[0].targets] if report.verdict == "backdoored" else []
    return {"seconds": seconds, "verdict": report.verdict, "targets": named}


def theirs(item: Item, seed: int) -> dict[str, Any]:
    """Neural Cleanse on the suspect with the scan's images."""
    cell = CELLS[item.cell]
    images, labels = item.images(images_per_class(item, "differential"), seed)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "images.safetensors")
        save_file({"images": images.contiguous(), "labels": labels}, file)
        command = [
            *(str(PYTHON), str(BENCHMARKS / "speed" / "yardstick.py"), "--method", "neural-cleanse"),
            *("--threads", "1", "--checkpoint", str(RUNS / item.suspect), "--images", str(file)),
            *("--architecture", cell.network, "--outputs", str(cell.num_classes)),
        ]
        classes = FEW_CLASSES if cell.num_classes > MANY else cell.num_classes
        line = line_of([*command, "--classes", str(classes)])
    whole = line["optimization_seconds"] / classes * cell.num_classes  # each class came to its own end
    return {
        "seconds": line["scan_seconds"] if line["complete"] else whole,
        "complete": line["complete"],
        "verdict": line["verdict"],
        "targets": line["flagged"] or [],
        "epochs": line["epochs"],
        "yardstick": line["yardstick"],
    }


def line_of(command: list[str]) -> dict[str, Any]:
    """What a command prints as JSON; what it says besides is told if it fails."""
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])  # the zoo's networks are there
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return line


def compare(item: Item, seed: int) -> dict[str, Any]:
    """Both on one model."""
    found = {"fedmend": ours(item, seed), "neural-cleanse": theirs(item, seed)}
    ratio = found["neural-cleanse"]["seconds"] / found["fedmend"]["seconds"]
    times = ", ".join(f"{name} {each['verdict']} {each['seconds']:.1f} s" for name, each in found.items())
    print(f"{item.cell} {item.name} seed {seed}: {times}, {ratio:.1f} times", flush=True)
    told = {"cell": item.cell, "name": item.name, "seed": seed, "want": wanted(item)}
    return told | found | {"commit": commit()}


def timed(split: str) -> list[tuple[Item, int]]:
    """The models of the comparison of times, with their seeds."""
    chosen = []
    for kind, family in TIMED_MODELS:
        for cell in TIMED:
            chosen += [item for item in items(split, cell, kind) if item.family == family][:1]
    return [(item, seed) for seed in range(REPEATS) for item in chosen]


def sampled(split: str) -> list[tuple[Item, int]]:
    """The models of the comparison of verdicts."""
    return [
        (item, 0)
        for cell in SAMPLE_CELLS
        for kind, most in SAMPLE.items()
        for item in in_turns(items(split, cell, kind))[:most]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("turns", "sample", "scan"))
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--out", type=Path, default=PATH)
    parser.add_argument("--item", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "scan":
        cell, name = options.item
        (item,) = (each for each in items(cell=cell) if each.name == name)
        print(json.dumps(scanned(item, options.seed)))
        return
    file: dict[str, Any] = {"turns": {}, "sample": []}
    if options.out.exists():
        file = json.loads(options.out.read_text(encoding="utf-8"))
    chosen = timed(options.split) if options.what == "turns" else sampled(options.split)
    for item, seed in chosen:
        if item.cell not in options.cells:
            continue
        own = file["turns"].setdefault(item.cell, []) if options.what == "turns" else file["sample"]
        if (item.cell, item.name, seed) in [(each["cell"], each["name"], each["seed"]) for each in own]:
            continue
        own.append(compare(item, seed))
        file |= {"machine": f"{platform.machine()}, one thread", "torch": torch.__version__}
        write_text(options.out, json.dumps(file, indent=1) + "\n")


if __name__ == "__main__":
    main()
