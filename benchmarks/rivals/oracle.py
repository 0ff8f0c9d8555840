"""TrojanZoo's trigger inversions beside fedmend's, on the same models and images; results/oracle.json.

    sh benchmarks/speed/setup_yardstick.sh
    python benchmarks/rivals/oracle.py neural-cleanse      # or tabor, deep-inspect

Compared are how the triggers' norms rank the classes, the verdicts, and the CPU times of the scans. Each run is a
process of its own with one thread, and each runs to its own end. What has been measured is kept.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from scipy.stats import spearmanr

from fedmend import Case, scan
from fedmend.detection import DETECTORS, Tabor, TaborWeights, accelerated_suspect
from fedmend.files import write_text
from fedmend.seeds import generator

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "speed"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "zoo"))

from cells import CELLS
from load import RUNS, Item, items
from yardstick import PYTHON, line_of

from commits import commit

HERE = Path(__file__).resolve().parent
BENCHMARKS = HERE.parent
PATH = HERE / "results" / "oracle.json"
SEED = 0
CELL = "mnist-convnet"
MODELS = (("backdoored", "patch-3"), ("clean", "rounds"))
PER_CLASS = 9
"""Images: of ten classes together one batch of TrojanZoo's."""
METHODS = ("neural-cleanse", "tabor", "deep-inspect")


def detector(method: str) -> Any:
    """Ours, with the oracle's weights."""
    return Tabor(weights=TaborWeights(blocking=0.0)) if method == "tabor" else DETECTORS[method]()


def ours(item: Item, method: str) -> dict[str, Any]:
    """A scan, and each class's norm."""
    torch.set_num_threads(1)
    suspect, _ = item.models()
    images, labels = item.images(PER_CLASS, SEED)
    case, judge = Case(suspect, images=images, labels=labels), detector(method)
    started, started_cpu = time.perf_counter(), time.process_time()
    report = scan(case, judge, seed=SEED)
    seconds, cpu = time.perf_counter() - started, time.process_time() - started_cpu
    (finding,) = report.findings
    norms = [measure.value for measure in finding.measures if measure.key.startswith("class_")]
    if isinstance(judge, Tabor):  # whose measure is another
        with accelerated_suspect(case) as lone:
            norms = judge.invert(lone, generator(SEED, "scan")).norms.tolist()
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "verdict": finding.verdict,
        "flagged": sorted(target.target for target in finding.targets),
        "norms": norms,
        "ended": finding.stop_reason,
    }


def theirs(item: Item, method: str) -> dict[str, Any]:
    """TrojanZoo's on the same images, with its own settings and at most 500 epochs a class."""
    images, labels = item.images(PER_CLASS, SEED)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "images.safetensors")
        save_file({"images": images.contiguous(), "labels": labels}, file)
        command = [
            *(str(PYTHON), str(BENCHMARKS / "speed" / "yardstick.py"), "--method", method, "--threads", "1"),
            *("--checkpoint", str(RUNS / item.suspect), "--images", str(file)),
            *("--architecture", CELLS[item.cell].network, "--outputs", str(CELLS[item.cell].num_classes)),
        ]
        line = line_of(command)
    return {
        "seconds": line["scan_seconds"],
        "cpu_seconds": line["scan_cpu_seconds"],
        "verdict": line["verdict"],
        "flagged": sorted(line["flagged"]),
        "norms": line[line["judged_by"]],
        "success": line["asr"],
        "epochs": line["epochs"],
        "yardstick": line["yardstick"],
    }


def compared(item: Item, method: str) -> dict[str, Any]:
    """Both on one model, one after the other."""
    own = [sys.executable, str(Path(__file__).resolve()), method, "--item", item.name]
    found = {"fedmend": line_of(own), "trojanzoo": theirs(item, method)}
    rank = float(spearmanr(found["fedmend"]["norms"], found["trojanzoo"]["norms"]).statistic)
    ratio = found["trojanzoo"]["cpu_seconds"] / found["fedmend"]["cpu_seconds"]
    told = ", ".join(
        f"{name} {each['verdict']} {each['flagged']} {each['cpu_seconds']:.1f} s"
        for name, each in found.items()
    )
    print(f"{method} {item.name}: {told}, {ratio:.1f} times, Spearman {rank:.2f}", flush=True)
    targets = [goal["target"] for goal in item.goal]
    return {
        "cell": item.cell,
        "name": item.name,
        "targets": targets,
        "spearman": rank,
        "ratio": ratio,
    } | found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--out", type=Path, default=PATH)
    parser.add_argument("--item", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.item:
        (item,) = (each for each in items(cell=CELL) if each.name == options.item)
        print(json.dumps(ours(item, options.method)))
        return
    file: dict[str, Any] = {}
    if options.out.exists():
        file = json.loads(options.out.read_text(encoding="utf-8"))
    own = file.setdefault(options.method, [])
    for kind, family in MODELS:
        item = next(each for each in items(options.split, CELL, kind) if each.family == family)
        if item.name in [each["name"] for each in own]:
            continue
        own.append(
            compared(item, options.method)
            | {
                "commit": commit(),
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "machine": f"{platform.machine()}, one thread",
                "torch": torch.__version__,
                "images": PER_CLASS * CELLS[CELL].num_classes,
                "seed": SEED,
            }
        )
        write_text(options.out, json.dumps(file, indent=1) + "\n")


if __name__ == "__main__":
    main()
