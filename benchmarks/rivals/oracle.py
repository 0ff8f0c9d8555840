"""Other libraries' detectors beside fedmend's, on the same models and images; results/oracle.json.

    sh benchmarks/speed/setup_yardstick.sh
    sh benchmarks/rivals/setup_art.sh
    python benchmarks/rivals/oracle.py                      # or --methods neural-cleanse tabor

Compared are the verdicts, how both rank the classes or which images both call poisoned, and the CPU times. Each run is
a process of its own with one thread, and each runs to its own end. What has been measured is kept.
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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from scipy.stats import spearmanr
from torch import Tensor

from fedmend import Case, scan
from fedmend.detection import DETECTORS, Tabor, TaborWeights, accelerated_suspect
from fedmend.files import write_text
from fedmend.goals import targets_of
from fedmend.seeds import generator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "zoo"))

from cells import CELLS
from load import RUNS, Item, items

from commits import commit

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent / "runs"
PATH = HERE / "results" / "oracle.json"
SEED = 0
MODELS = tuple(
    (cell, kind, family)
    for cell in ("mnist-convnet", "fashion-three-conv")
    for kind, family in (("backdoored", "patch-3"), ("clean", "rounds"))
)


@dataclass(frozen=True)
class Method:
    """How a detector is compared.

    Attributes:
        per_class: images of each class.
        epochs: at most so many of the other's, for a class or neuron; 500 are the contrastive paper's.
        poisoned: of that many images, the planted trigger is stamped on and the label is its target.
    """

    per_class: int = 9
    epochs: int = 500
    poisoned: int = 0


METHODS = {
    "neural-cleanse": Method(),
    "neuron-inspect": Method(),
    "activation-clustering": Method(per_class=200, poisoned=40),
    "tabor": Method(epochs=50),
    "deep-inspect": Method(epochs=10),
    "abs": Method(epochs=10),
}


def shown(item: Item, method: Method) -> tuple[Tensor, Tensor]:
    """The images that both are shown, uint8, and their labels."""
    images, labels = item.images(method.per_class, SEED)
    for trigger, goal in item.attacks()[:1] if method.poisoned else ():
        targets = targets_of(goal, labels)
        attacked = (targets >= 0).nonzero().flatten()
        order = torch.randperm(len(attacked), generator=generator(SEED, "oracle"))
        chosen = attacked[order[: method.poisoned]]
        images[chosen] = (trigger.apply(images[chosen] / 255) * 255).round().to(torch.uint8)
        labels[chosen] = targets[chosen]
    return images, labels


def ours(item: Item, name: str) -> dict[str, Any]:
    """A scan, and a number for each class where the method has one."""
    torch.set_num_threads(1)
    suspect, _ = item.models()
    images, labels = shown(item, METHODS[name])
    # TrojanZoo's weights of TABOR leave R3 out
    judge: Any = Tabor(weights=TaborWeights(blocking=0.0)) if name == "tabor" else DETECTORS[name]()
    case = Case(suspect, images=images, labels=labels)
    started, started_cpu = time.perf_counter(), time.process_time()
    report = scan(case, judge, seed=SEED)
    seconds, cpu = time.perf_counter() - started, time.process_time() - started_cpu
    (finding,) = report.findings
    scores = [measure.value for measure in finding.measures if measure.key.startswith("class_")]
    if isinstance(judge, Tabor):  # whose measure is another
        with accelerated_suspect(case) as lone:
            scores = judge.invert(lone, generator(SEED, "scan")).norms.tolist()
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "verdict": finding.verdict,
        "flagged": sorted(target.target for target in finding.targets if finding.verdict == "backdoored"),
        "scores": scores,
        "poisoned": list(finding.poisoned),
        "ended": finding.stop_reason,
    }


def theirs(item: Item, name: str) -> dict[str, Any]:
    """The other library's on the same images, with its own settings."""
    method, cell = METHODS[name], CELLS[item.cell]
    art = name == "activation-clustering"
    python = ENVIRONMENTS / ("art-env" if art else "yardstick-env") / "bin" / "python"
    script = [str(HERE / "run_art.py")] if art else [str(HERE / "run_trojanzoo.py"), name]
    images, labels = shown(item, method)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "images.safetensors")
        save_file({"images": images.contiguous(), "labels": labels}, file)
        command = [
            *(str(python), *script, "--checkpoint", str(RUNS / item.suspect), "--images", str(file)),
            *("--architecture", cell.network, "--outputs", str(cell.num_classes)),
            *(() if art else ("--epochs", str(method.epochs))),
        ]
        return line_of(command)


def line_of(command: list[str]) -> dict[str, Any]:
    """What a command prints as JSON in its last line; what it says besides is told if it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return line


def agreement(own: dict[str, Any], other: dict[str, Any], poisoned: bool) -> float | None:
    """Rank correlation of the classes' numbers, or Jaccard index of the images called poisoned; None without any."""
    if poisoned:
        sets = set(own["poisoned"]), set(other["poisoned"])
        return len(sets[0] & sets[1]) / len(sets[0] | sets[1]) if any(sets) else None
    return float(spearmanr(own["scores"], other["scores"]).statistic) if own["scores"] else None


def compared(item: Item, name: str) -> dict[str, Any]:
    """Both on one model, one after the other."""
    own = line_of([sys.executable, str(Path(__file__).resolve()), "--item", item.cell, item.name, name])
    other = theirs(item, name)
    row = {
        "cell": item.cell,
        "name": item.name,
        "targets": [goal["target"] for goal in item.goal],
        "agreement": agreement(own, other, METHODS[name].poisoned > 0),
        "ratio": other["cpu_seconds"] / own["cpu_seconds"],
        "fedmend": own,
        "other": other,
        "epochs": METHODS[name].epochs,
        "images": METHODS[name].per_class * CELLS[item.cell].num_classes,
        "seed": SEED,
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, one thread",
        "torch": torch.__version__,
    }
    told = ", ".join(
        f"{each['verdict']} {each['flagged']} {each['cpu_seconds']:.1f} s" for each in (own, other)
    )
    print(f"{name} {item.cell} {item.name}: {told}, {row['ratio']:.1f} times, {row['agreement']}", flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--models", type=int, default=len(MODELS), help="the first so many")
    parser.add_argument("--out", type=Path, default=PATH)
    parser.add_argument("--item", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.item:
        cell, name, method = options.item
        (item,) = (each for each in items(cell=cell) if each.name == name)
        print(json.dumps(ours(item, method)))
        return
    file: dict[str, Any] = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    for name in options.methods:
        rows = file.setdefault(name, [])
        for cell, kind, family in MODELS[: options.models]:
            item = next(each for each in items("dev", cell, kind) if each.family == family)
            if (cell, item.name) not in [(row["cell"], row["name"]) for row in rows]:
                rows.append(compared(item, name))
                write_text(options.out, json.dumps(file, indent=1) + "\n")


if __name__ == "__main__":
    main()
