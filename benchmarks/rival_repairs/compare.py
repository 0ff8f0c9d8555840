"""Run every repair on the same backdoored models; a line of JSON for each pair is appended to results/<split>.jsonl.

    python benchmarks/rival_repairs/compare.py                 # six development models of the zoo, every repair
    python benchmarks/rival_repairs/compare.py --most 2 --methods ft-sam anp

All repairs get the same scan, the same 1,000 images, of which half judge the result, and the same gate. ASR and
accuracy are measured on other images, on the last candidate that a repair made, whether or not the gate released it.
Pairs that have a line are passed over, so a killed run goes on where it was. Times are CPU time of one thread. The
models are the zoo's: ``ZOO_RUNS`` is the folder that holds them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedmend.detection import Case, Differential, Finding, scan
from fedmend.parameters import flatten
from fedmend.progress import Progress
from fedmend.repairs import (
    REPAIRS,
    Candidate,
    Context,
    DeepSweep,
    FederatedPruning,
    HoldOutGate,
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
MODELS = ("suspect", "reference")
Line = dict[str, Any]


class Watched:
    """A repair whose candidates are kept, with the CPU time that it took for all of them."""

    def __init__(self, method: Repair) -> None:
        self.method, self.trigger_use = method, getattr(method, "trigger_use", "all")
        self.candidates: list[Candidate] = []
        self.seconds = 0.0

    def __call__(self, suspect: nn.Module, findings: Sequence[Finding], context: Context) -> Candidate:
        started = time.process_time()
        self.candidates.append(self.method(suspect, findings, context))
        self.seconds += time.process_time() - started
        return self.candidates[-1]


class Remembering:
    """The gate's detector. It doesn't repeat a search: those of the suspect are the same for all repairs."""

    needs = Differential.needs

    def __init__(self) -> None:
        self.detector = Differential()
        self.found: dict[bytes, Finding] = {}

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        parts = (flatten(case.suspect.state_dict()), case.pixels, rng.get_state())
        key = sha256(b"".join(part.cpu().numpy().tobytes() for part in parts)).digest()
        if key not in self.found:
            self.found[key] = self.detector(case, rng, progress)
        return self.found[key]


def chosen_items(split: str) -> Iterator[Item]:
    """The first backdoored model of each family in each cell, families first."""
    for family in FAMILIES:
        for cell in CHOSEN:
            found = [item for item in items(split, cell, "backdoored") if item.family == family]
            yield from found[:1]


class Start:
    """What all repairs of a model share: the scan before them, the gate, and the models' ASR and accuracy."""

    def __init__(self, item: Item, seed: int) -> None:
        self.item, self.seed = item, seed
        models = item.models()
        case = Case(*models, *item.images(images_per_class(item, "differential"), seed))
        self.found = scan(case, Differential(), seed=seed)
        self.gate = HoldOutGate(detector=Remembering())
        self.asr = {name: success(item, each) for name, each in zip(MODELS, models, strict=True)}
        self.accuracy = {
            name: measured_accuracy(item, each) for name, each in zip(MODELS, models, strict=True)
        }

    def line(self, name: str) -> Line:
        """Repair the model by one method, and measure the candidate."""
        item, watched = self.item, Watched(METHODS[name])
        images = item.images(IMAGES // CELLS[item.cell].num_classes, self.seed)
        _, report = repair(Case(*item.models(), *images), self.found, watched, self.gate, seed=self.seed)
        candidate = watched.candidates[-1] if watched.candidates else None
        return {
            "cell": item.cell,
            "family": item.family,
            "name": item.name,
            "method": name,
            "seed": self.seed,
            "verdict": self.found.verdict,
            "outcome": report.outcome,
            "reason": report.reason,
            "verdict_after": report.verdict_after,
            "summary": candidate and candidate.summary,
            "asr": self.asr | ({"candidate": success(item, candidate.model)} if candidate else {}),
            "accuracy": self.accuracy
            | ({"candidate": measured_accuracy(item, candidate.model)} if candidate else {}),
            "method_seconds": watched.seconds,
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
        start = Start(item, options.seed)
        for name in missing:
            line = start.line(name) | told
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
