"""The verdicts of scans of the colour models, over seeds and images, by method; results/verdicts.json.

    python benchmarks/speed/train.py cifar10 cifar10-development
    python benchmarks/speed/verdicts.py --seeds 10
    python benchmarks/speed/verdicts.py --seeds 10 --method "contrastive, single precision"

Each seed chooses other images of the test images, as many of each class as can be, and the search's restarts. The
search's settings were chosen on the development models; the others are the test. What has a result is passed over.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
from pathlib import Path
from typing import Any

import torch
from worlds import DEVELOPMENT, WORLDS
from yardstick import load

from fedmend import DETECTORS, Case, load_images, scan
from fedmend.data import stratified
from fedmend.detection import Contrastive, measured
from fedmend.files import write_text
from fedmend.seeds import generator

SINGLE = "contrastive, single precision"
COMPARED = DETECTORS | {SINGLE: lambda: Contrastive(half=False)}
PATH = Path(__file__).resolve().parent / "results" / "verdicts.json"
SCANNED = {world.name: world for world in (WORLDS["cifar10"], DEVELOPMENT)}


def scanned(task: tuple[str, str, str, int]) -> tuple[tuple[str, str, str, int], dict[str, Any]]:
    """One model, by one method, with one seed."""
    world_name, name, method, seed = task
    world = SCANNED[world_name]
    torch.set_num_threads(1)
    test = load_images(world.source, "test")
    chosen = test.subset(stratified(test, world.scan_images, generator(seed, "verdict")))
    suspect, reference = (
        load(world.checkpoint(each), world.architecture, test.num_classes, chosen.images)
        for each in (name, "reference")
    )
    report = scan(Case(suspect, reference, chosen.images, chosen.labels), COMPARED[method](), seed=seed)
    (finding,) = report.findings
    (target,) = finding.targets
    control = measured(finding, "control_reasr")
    assert target.trigger is not None
    backdoor = world.successors[name]
    return task, {
        "seed": seed,
        "planted": None if backdoor is None else backdoor.target_class,
        "verdict": report.verdict,
        "target": target.target,
        "reasr": target.success,
        "control_reasr": None if control is None else control.value,
        "mask_size": target.trigger.size,
        "steps": len(finding.loss_curve),
        "seconds": report.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("worlds", nargs="*", metavar="world", help=f"of {', '.join(SCANNED)}; all by default")
    parser.add_argument("--method", default="contrastive", choices=COMPARED)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=PATH)
    options = parser.parse_args()
    file: dict[str, Any] = {}
    if options.out.exists():
        file = json.loads(options.out.read_text(encoding="utf-8"))

    def results(world: str, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (
            file.setdefault(world, {}).setdefault(name, {}).setdefault(options.method, [])
        )
        return found

    tasks = [
        (world, name, options.method, seed)
        for world in options.worlds or SCANNED
        for name in SCANNED[world].successors
        for seed in range(1, options.seeds + 1)
        if seed not in [each["seed"] for each in results(world, name)]
    ]
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for (world, name, _, seed), line in pool.imap(scanned, tasks):
            results(world, name).append(line)
            file |= {"machine": f"{platform.machine()}, one core a scan", "torch": torch.__version__}
            write_text(options.out, json.dumps(file, indent=1) + "\n")
            print(world, name, options.method, seed, line["verdict"], f"{line['reasr']:.0%}", flush=True)


if __name__ == "__main__":
    main()
