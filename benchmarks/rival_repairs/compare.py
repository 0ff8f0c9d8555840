"""Run every repair on the same backdoored models; a line of JSON for each pair is appended to results/<split>.jsonl.

    python benchmarks/rival_repairs/compare.py                 # six development models of the zoo, every repair
    python benchmarks/rival_repairs/compare.py --most 2 --methods ft-sam anp

All repairs get the same scan, the same 1,000 images, of which half judge the result, and the same gate. ASR and
accuracy are measured on other images, on the last candidate that a repair made, whether or not the gate released it.
Pairs that have a line are passed over, so a killed run goes on where it was. Times are of one thread. The models are
the zoo's: ``ZOO_RUNS`` is the folder that holds them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedmend.detection import Case, Differential, Finding, ScanReport, scan
from fedmend.repairs import (
    REPAIRS,
    Candidate,
    Context,
    DeepSweep,
    FederatedPruning,
    Repair,
    repair,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "zoo"))

from cells import CELLS
from evaluate import images_per_class, provenance
from load import Item, items

from repairs import measured_accuracy, success

RESULTS = Path(__file__).resolve().parent / "results"
CHOSEN = ("mnist-convnet", "fashion-three-conv")
FAMILIES = ("patch-3", "patch-8", "blend")
IMAGES = 1000
METHODS: dict[str, Repair] = {
    name: method for name, method in REPAIRS.items() if not isinstance(method, FederatedPruning)
} | {"deep-sweep, preprocessing": DeepSweep(at_inference=True)}
Line = dict[str, Any]


class Watched:
    """A repair whose candidates are kept, with the time that it took for all of them."""

    def __init__(self, method: Repair) -> None:
        self.method, self.trigger_use = method, getattr(method, "trigger_use", "all")
        self.candidates: list[Candidate] = []
        self.seconds = 0.0

    def __call__(self, suspect: nn.Module, findings: Sequence[Finding], context: Context) -> Candidate:
        started = time.perf_counter()
        self.candidates.append(self.method(suspect, findings, context))
        self.seconds += time.perf_counter() - started
        return self.candidates[-1]


def chosen_items(split: str) -> Iterator[Item]:
    """The first backdoored model of each family in each cell, families first."""
    for family in FAMILIES:
        for cell in CHOSEN:
            found = [item for item in items(split, cell, "backdoored") if item.family == family]
            yield from found[:1]


def scanned(item: Item, seed: int) -> ScanReport:
    """The scan that all repairs of a model start from."""
    images = item.images(images_per_class(item, "differential"), seed)
    return scan(Case(*item.models(), *images), Differential(), seed=seed)


def line_of(item: Item, name: str, found: ScanReport, seed: int) -> Line:
    """Repair one model by one method, and measure suspect, candidate and reference."""
    suspect, reference = item.models()
    images = item.images(IMAGES // CELLS[item.cell].num_classes, seed)
    watched = Watched(METHODS[name])
    started = time.perf_counter()
    _, report = repair(Case(suspect, reference, *images), found, watched, seed=seed)
    seconds = time.perf_counter() - started
    models = {"suspect": suspect, "reference": reference}
    if watched.candidates:
        models["candidate"] = watched.candidates[-1].model
    return {
        "cell": item.cell,
        "family": item.family,
        "name": item.name,
        "method": name,
        "seed": seed,
        "verdict": found.verdict,
        "outcome": report.outcome,
        "reason": report.reason,
        "verdict_after": report.verdict_after,
        "summary": watched.candidates[-1].summary if watched.candidates else None,
        "asr": {which: success(item, each) for which, each in models.items()},
        "accuracy": {which: measured_accuracy(item, each) for which, each in models.items()},
        "method_seconds": watched.seconds,
        "repair_seconds": seconds,
        "passes": len(watched.candidates),
        "settings": asdict(METHODS[name]) | report.settings,  # type: ignore[call-overload]
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, help="at most so many models")
    options = parser.parse_args()
    torch.set_num_threads(1)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{options.split}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    done = {(line["cell"], line["name"], line["method"], line["seed"]) for line in map(json.loads, lines)}
    told = provenance(1, "cpu")
    for item in list(chosen_items(options.split))[: options.most]:
        missing = [name for name in options.methods if (item.cell, item.name, name, options.seed) not in done]
        if not missing:
            continue
        found = scanned(item, options.seed)
        for name in missing:
            line = line_of(item, name, found, options.seed) | told
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            rates = {which: round(rates[0], 3) for which, rates in line["asr"].items()}
            print(
                f"{item.cell} {item.name} {name}: {line['outcome']}, ASR {rates}, accuracy {line['accuracy']}, "
                f"{line['method_seconds']:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
