"""Scan the zoo's models; a line of JSON for each scan is appended to results/<split>-<method>-<effort>.jsonl.

    python benchmarks/zoo/evaluate.py --split dev
    python benchmarks/zoo/evaluate.py --split test --workers 2              # the judgement
    python benchmarks/zoo/evaluate.py --split test --seeds 10               # agreement over seeds
    python benchmarks/zoo/evaluate.py --split test --both                   # the reference is backdoored, too
    python benchmarks/zoo/evaluate.py --split test --method contrastive-paper
    python benchmarks/zoo/evaluate.py --method ablations:without_swap
    python benchmarks/zoo/evaluate.py --split test --device cuda --workers 6

Scans that have a line are passed over, so a killed run goes on where it was; two runs may share a file if their
cells differ. Cells and families take turns, so the first lines already cover all of them. Times are of one thread.
Where git isn't at hand, the environment variable COMMIT says which commit is measured.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from cells import CELLS
from load import INDEX, Item, items
from scans import RESULTS, load, path_of

from fedmend import DETECTORS, Case, Finding, scan
from fedmend.detection import Detector, Differential, find_detector, model_pair
from fedmend.evaluation import mask_iou
from fedmend.federation import patch_of
from fedmend.files import write_text
from fedmend.goals import NOT_ATTACKED, targets_of
from fedmend.triggers import Patch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit

MASK_LEVEL = 0.3
PAPER = {"mnist": "mnist", "fashion-mnist": "mnist", "cifar10": "cifar10", "gtsrb": "gtsrb"}
PAPER_METHOD = "contrastive-paper"
"""The paper's method with its settings for the dataset; those for MNIST on Fashion-MNIST, which it doesn't use."""

Task = tuple[Item, argparse.Namespace, int]


def evaluate(task: Task) -> dict[str, Any] | None:
    """One scan's line; None if it failed, which is told."""
    item, options, seed = task
    torch.set_num_threads(1)
    try:
        return scanned(item, options, seed)
    except Exception:
        print(f"{item.cell} {item.name} failed:\n{traceback.format_exc()}", flush=True)
        return None


def scanned(item: Item, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Scan one item with one seed, which also draws the server's images."""
    suspect, reference = item.models()
    if options.both:
        before = item.previous()
        assert before is not None
        reference = before
    suspect, reference = suspect.to(options.device), reference.to(options.device)
    images, labels = item.images(images_per_class(item, options.method), seed)
    detector = detector_for(item, options.method, options.effort)
    started = time.perf_counter()
    with counted() as passes:
        report = scan(Case(suspect, reference, images, labels), detector, seed=seed)
    seconds = time.perf_counter() - started
    finding = report.findings[0]
    return {
        "cell": item.cell,
        "name": item.name,
        "kind": item.kind,
        "family": item.family,
        "federation": item.federation,
        "seed": seed,
        "verdict": report.verdict,
        "want": wanted(item),
        "found": [
            [each.sources[0] if each.sources else None, each.target, round(each.success, 3)]
            for each in finding.targets
        ],
        "measures": {each.key: round(each.value, 4) for each in finding.measures},
        "suspicious": round(finding.suspicious, 4),
        "iou": overlaps(item, finding),
        "asr": list(item.asr),
        "images": len(images),
        "seconds": round(seconds, 2),
        "passes": passes[0],
        "stop": finding.stop_reason,
    }


def detector_for(item: Item, method: str, effort: str) -> Detector:
    """The detector with this name; ``contrastive-paper`` has settings for each dataset."""
    if method == PAPER_METHOD:
        method = f"{method}-{PAPER[CELLS[item.cell].source]}"
    detector = find_detector(method)
    return replace(detector, effort=effort) if isinstance(detector, Differential) else detector


def images_per_class(item: Item, method: str) -> int:
    """As many as ``fedmend scan`` takes; the paper's method takes three, as in the paper."""
    if method == PAPER_METHOD:
        return 3
    return min(40, 600 // CELLS[item.cell].num_classes)


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count the images that a search passes through either model, each time anew."""
    passes = [0]

    def counting(of: Callable[..., Callable[[torch.Tensor], Any]]) -> Callable[..., Any]:
        def made(*arguments: Any, **options: Any) -> Callable[[torch.Tensor], Any]:
            outputs = of(*arguments, **options)

            def call(images: torch.Tensor) -> Any:
                passes[0] += len(images)
                return outputs(images)

            return call

        return made

    with patch.object(model_pair, "FeatureMap", counting(model_pair.FeatureMap)):
        yield passes


def wanted(item: Item) -> list[list[int | None]]:
    """The planted backdoors as [source, target], the source None for all others; all-to-all has a pair a class."""
    pairs: list[list[int | None]] = []
    for _, goal in item.attacks():
        classes = torch.arange(CELLS[item.cell].num_classes)
        targets = targets_of(goal, classes)
        sources = (targets != NOT_ATTACKED).nonzero().flatten().tolist()
        if len(set(targets[sources].tolist())) == 1 and len(sources) > 1:
            pairs.append([None, int(targets[sources[0]])])
        else:
            pairs += [[source, int(targets[source])] for source in sources]
    return pairs


def overlaps(item: Item, finding: Finding) -> list[float | None]:
    """For each planted patch, the IoU with the best patch recovered for its target; None without one."""
    values: list[float | None] = []
    for (trigger, _), pair in zip(item.attacks(), wanted(item), strict=False):
        planted = patch_of(trigger)
        recovered = [
            each.trigger
            for each in finding.targets
            if each.target == pair[1] and isinstance(each.trigger, Patch)
        ]
        if planted is None or not recovered:
            values.append(None)
        else:
            values.append(
                round(max(mask_iou(planted.mask, each.mask, level=MASK_LEVEL) for each in recovered), 3)
            )
    return values


def in_turns(chosen: list[Item]) -> list[Item]:
    """The first of each family, cells in turns, then the second of each, ...; in a family, federations take turns."""
    federations: dict[tuple[str, ...], int] = defaultdict(int)
    groups: dict[tuple[str, str], list[tuple[int, Item]]] = defaultdict(list)
    for item in chosen:
        rank = federations[item.cell, item.family, item.federation]
        federations[item.cell, item.family, item.federation] += 1
        groups[item.cell, item.family].append((rank, item))
    families: dict[str, int] = defaultdict(int)
    placed: list[tuple[int, int, Item]] = []
    for (cell, _), members in groups.items():
        members.sort(key=lambda member: member[0])
        placed += [(number, families[cell], item) for number, (_, item) in enumerate(members)]
        families[cell] += 1
    return [item for *_, item in sorted(placed, key=lambda place: place[:2])]


def provenance(workers: int, device: str) -> dict[str, str]:
    """What else a line holds: the commit, torch and the machine."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {workers} scans at a time"
    if device != "cpu":
        machine = f"{torch.cuda.get_device_name()}, {workers} scans at a time"
    return {"commit": commit(), "torch": torch.__version__, "machine": machine}


def count_items() -> None:
    """Write how many models the zoo has, as far as it is trained, which is what ``make results`` plans with."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for item in items():
        counts[item.split][f"{item.cell}/{item.kind}/{item.family}"] += 1
        counts[item.split]["both"] += item.both_previous is not None
    write_text(RESULTS / "zoo.json", json.dumps(counts, indent=1, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--method",
        default="differential",
        help=f"of {', '.join(DETECTORS)}, {PAPER_METHOD}, or module:factory",
    )
    parser.add_argument("--effort", default="standard", help="of the differential detector")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--families", nargs="+", help="all by default")
    parser.add_argument("--kind", choices=("backdoored", "clean"), help="both by default")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, ...")
    parser.add_argument(
        "--both",
        action="store_true",
        help="the last attacked round against the one before",
    )
    parser.add_argument("--most", type=int, help="at most so many models, spread over cells and families")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--out", type=Path, help="another file, such as one for trials")
    options = parser.parse_args()
    if not items():
        sys.exit(f"{INDEX} holds no models: run train.py, or set ZOO_RUNS")
    RESULTS.mkdir(exist_ok=True)
    count_items()
    path = options.out or path_of(options.split, options.method, options.effort, both=options.both)
    told, lines = provenance(options.workers, options.device), load(path)
    done = {(line["cell"], line["name"], line["seed"]) for line in lines}
    if older := sum(line["commit"] != told["commit"] for line in lines):
        print(f"{older} of {len(lines)} scans in {path.name} are of another commit than {told['commit']}")
    chosen = in_turns(
        [
            item
            for item in items(options.split, kind=options.kind)
            if item.cell in options.cells
            and (options.families is None or item.family in options.families)
            and (not options.both or item.both_previous is not None)
        ]
    )
    tasks: list[Task] = [
        (item, options, seed)
        for seed in range(options.seeds)
        for item in chosen[: options.most]
        if (item.cell, item.name, seed) not in done
    ]
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for line in pool.imap_unordered(evaluate, tasks):
            if line is None:
                continue
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line | told) + "\n")
            print(
                f"{line['verdict']:12s} {line['cell']} {line['name']} seed {line['seed']}: want {line['want'][:2]}, "
                f"found {line['found'][:2]}, {line['seconds']:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
