"""Repair the zoo's backdoored models; a line of JSON for each is appended to results/repairs/<split>.jsonl.

    python benchmarks/zoo/repairs.py --split dev
    python benchmarks/zoo/repairs.py --split test --further     # and train the first of each family further

The server has 1,000 images, half of which judge the repair, and scans with as many as ``fedmend scan`` takes. ASR and
accuracy are those of other images. ``further``: one honest round, and five rounds with the attackers, from the
repaired model and, beside it, from the reference, which was never poisoned. Models that have a line are passed over,
so a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cells import CELLS
from evaluate import images_per_class, in_turns, provenance
from jobs import Job, results
from load import RUNS, Item, items, model, training_images
from torch import nn

from fedmend.checkpoints import save_state
from fedmend.detection import Case, Differential, scan
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.federation import RunFolder, simulate, simulated_config
from fedmend.goals import attacked, targets_of
from fedmend.repairs import FIVE_EPOCHS, repair

RESULTS = Path(__file__).parent / "results" / "repairs"
IMAGES = 1000
MEASURED = 2000
ATTACKED_ROUNDS = 5
Line = dict[str, Any]


def line_of(item: Item, seed: int, further: bool) -> Line:
    """Scan and repair one model, and measure it."""
    suspect, reference = item.models()
    started = time.perf_counter()
    found = scan(
        Case(suspect, reference, *item.images(images_per_class(item, "differential"), seed)),
        Differential(),
        seed=seed,
    )
    scanned = time.perf_counter()
    images = item.images(IMAGES // CELLS[item.cell].num_classes, seed)
    repaired, report = repair(Case(suspect, reference, *images), found, seed=seed)
    finished = time.perf_counter()
    models = {"suspect": suspect, "reference": reference} | ({"repaired": repaired} if repaired else {})
    line: Line = {
        "cell": item.cell,
        "family": item.family,
        "name": item.name,
        "seed": seed,
        "verdict": found.verdict,
        "outcome": report.outcome,
        "reason": report.reason,
        "details": None if report.details is None else asdict(report.details),
        "triggers": [asdict(check) for check in report.target_checks],
        "settings": asdict(FIVE_EPOCHS),
        "scan_seconds": scanned - started,
        "repair_seconds": finished - scanned,
        "asr": {name: success(item, each) for name, each in models.items()},
        "accuracy": {name: measured_accuracy(item, each) for name, each in models.items()},
    }
    if further and repaired is not None:
        starts = {"repaired": repaired, "reference": reference}
        line["further"] = {name: trained_further(item, each) for name, each in starts.items()}
    return line


def success(item: Item, net: nn.Module) -> list[float]:
    """The ASR of each of an item's attacks."""
    images, rates = item.attack_images(), []
    for trigger, goal in item.attacks():
        chosen = attacked(targets_of(goal, images.labels), images.labels).nonzero().flatten()[:MEASURED]
        rates.append(attack_success_rate(net, trigger, goal, images.images[chosen], images.labels[chosen]))
    return rates


def measured_accuracy(item: Item, net: nn.Module) -> float:
    """Accuracy on images that the server doesn't hold."""
    images = item.attack_images()
    return accuracy(net, images.images[:MEASURED], images.labels[:MEASURED])


def trained_further(item: Item, net: nn.Module) -> dict[str, Line]:
    """ASR and accuracy after one honest round, and after five with the attackers of the item's branch."""
    config = simulated_config(RunFolder(RUNS / Path(item.suspect).parents[1]))
    last = config.federation.rounds
    measures = {}
    for name, rounds, attack in (("honest", 1, ()), ("attacked", ATTACKED_ROUNDS, config.attack)):
        with tempfile.TemporaryDirectory() as folder:
            start = Path(folder) / "start.safetensors"
            save_state(net.state_dict(), start)
            again = replace(
                config,
                model=replace(config.model, start=str(start), start_round=last),
                federation=replace(config.federation, rounds=last + rounds),
                attack=attack,
            )
            run = RunFolder(Path(folder) / "run")
            simulate(again, run.path, data=(training_images(CELLS[item.cell]), item.attack_images()))
            after = model(CELLS[item.cell], run.checkpoint(last + rounds))
        measures[name] = {"asr": success(item, after), "accuracy": measured_accuracy(item, after)}
    return measures


def firsts(chosen: list[Item]) -> Iterator[Item]:
    """The first item of each cell's families."""
    seen = set()
    for item in chosen:
        if (item.cell, item.family) not in seen:
            seen.add((item.cell, item.family))
            yield item


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--families", nargs="+", help="all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--further", action="store_true", help="train the first of each family further")
    parser.add_argument("--most", type=int, help="at most so many models, spread over cells and families")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{options.split}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    done = {(line["cell"], line["name"], line["seed"]) for line in map(json.loads, lines)}
    chosen = in_turns(
        [
            item
            for item in items(options.split, kind="backdoored")
            if item.cell in options.cells and (options.families is None or item.family in options.families)
        ]
    )[: options.most]
    sample = {(item.cell, item.name) for item in firsts(chosen)} if options.further else set()
    jobs = [
        Job(f"{item.cell}/{item.name}", line_of, (item, options.seed, (item.cell, item.name) in sample))
        for item in chosen
        if (item.cell, item.name, options.seed) not in done
    ]
    told = provenance(options.workers, "cpu")
    for line in results(jobs, options.workers):
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | told) + "\n")
        rates = {name: [round(rate, 3) for rate in rates] for name, rates in line["asr"].items()}
        print(
            f"{line['cell']} {line['name']}: {line['outcome']}, ASR {rates}, accuracy {line['accuracy']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
