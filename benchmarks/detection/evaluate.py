"""Scan and repair the models of the detection benchmark; results/<dataset>.json grows as they come.

    python benchmarks/detection/evaluate.py --datasets mnist fashion-mnist

Run train.py first, and nothing beside this: it measures times. Each model has a process of its own. Models that aren't
trained yet are left out, and a model that has a result is passed over, so a killed run goes on where it was.
The server's 2,000 images and the others, on which accuracy and attack success are measured, come from the test split
and have none in common. The scan and the repair see neither the planted trigger nor the other images.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from train import RUNS, last_model

from fedmend import (
    Case,
    Differential,
    ScanReport,
    accuracy,
    attack_success_rate,
    build_model,
    load_checkpoint,
    load_images,
    repair,
    scan,
)
from fedmend.data import ImageSet, stratified
from fedmend.evaluation import mask_iou
from fedmend.federation import PlannedAttack, RunFolder, load_attacks, patch_of
from fedmend.files import write_text
from fedmend.repairs import FIVE_EPOCHS, UnlearningDetails
from fedmend.seeds import generator
from fedmend.triggers import Patch
from models import DATASETS, Job, branches, trunk

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit

RESULTS = Path(__file__).parent / "results"
SERVER_IMAGES = 2000
SCAN_IMAGES = 400  # 40 per class, as fedmend scan takes
SEED = 0


def evaluate(task: tuple[str, Job]) -> tuple[str, str, dict[str, Any]]:
    dataset, job = task
    test = load_images(dataset, "test")
    own = stratified(test, SERVER_IMAGES, generator(SEED, "server", job.name))
    rest = torch.ones(len(test), dtype=torch.bool).index_fill_(0, own, False)
    server, others = test.subset(own), test.subset(rest.nonzero().flatten())
    folder = RUNS / dataset / job.name
    suspect, reference = (load(last_model(dataset, each)) for each in (job, trunk(dataset)))

    chosen = server.subset(stratified(server, SCAN_IMAGES, generator(SEED, "scan", job.name)))
    before = reset_peak()
    report = scan(Case(suspect, reference, chosen.images, chosen.labels), seed=SEED)
    memory = None if before is None else peak() - before
    finding = report.findings[0]
    first = finding.targets[0] if finding.targets else None
    found = first_patch(report)
    result: dict[str, Any] = {
        "accuracy": accuracy(suspect, others.images, others.labels),
        "verdict": report.verdict,
        "lead": finding.suspicious,
        "p_value": finding.p_value,
        "found_target": first.target if first else None,
        "targets": [[list(each.sources), each.target] for each in finding.targets],
        "reasr": first.success if first else None,
        "mask_size": found.size if found else None,
        "scan_seconds": report.seconds,
        "scan_memory_mib": memory,
        "stop_reason": finding.stop_reason,
        "warnings": [*report.warnings, *finding.warnings],
    }
    if job.config.attack:
        case = Case(suspect, reference, server.images, server.labels)
        result |= attacked(load_attacks(RunFolder(folder), server)[0], case, others, report)
    return dataset, job.name, result


def attacked(attack: PlannedAttack, case: Case, others: ImageSet, report: ScanReport) -> dict[str, Any]:
    """Repair, then measure with the attacker's trigger what was reached."""
    planted, goal = attack.trigger, attack.goal
    patch, found = patch_of(planted), first_patch(report)
    assert patch is not None
    assert case.reference is not None
    repaired, outcome = repair(case, report, seed=SEED)
    assert outcome.details is None or isinstance(outcome.details, UnlearningDetails)
    result = {
        "kind": "dba" if attack.config.distributed else "sba",
        "shape": attack.config.trigger["shape"],
        "target": attack.config.goal["target"],
        "asr": attack_success_rate(case.suspect, planted, goal, others.images, others.labels),
        "reference_asr": attack_success_rate(case.reference, planted, goal, others.images, others.labels),
        "mask_iou": mask_iou(patch.mask, found.mask, level=0.3) if found else None,
        "outcome": outcome.outcome,
        "reason": outcome.reason,
        "triggers": outcome.details.triggers if outcome.details else 0,
        "passes": outcome.details.passes if outcome.details else 0,
        "repair_seconds": outcome.seconds,
        "repaired_accuracy": None,
        "repaired_asr": None,
    }
    if repaired is not None:
        result["repaired_accuracy"] = accuracy(repaired, others.images, others.labels)
        result["repaired_asr"] = attack_success_rate(repaired, planted, goal, others.images, others.labels)
    return result


def first_patch(report: ScanReport) -> Patch | None:
    """The patch recovered for the first target; None if that is none."""
    targets = report.findings[0].targets
    trigger = targets[0].trigger if targets else None
    return trigger if isinstance(trigger, Patch) else None


STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> float | None:
    """Forget the process's peak of resident memory; what is resident now, in MiB, or None where it can't be known."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return None
    return peak()


def peak() -> float:
    """The process's peak of resident memory since it was last forgotten, in MiB (Linux)."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def load(path: Path) -> torch.nn.Module:
    model = build_model("convnet", num_classes=10, in_channels=1, image_size=(28, 28), seed=0)
    load_checkpoint(path, model)
    return model.eval()


def provenance(dataset: str) -> dict[str, Any]:
    """What is needed to run it again, and where it ran."""
    return {
        "dataset": dataset,
        "command": "python benchmarks/detection/train.py && python benchmarks/detection/evaluate.py",
        "seed": SEED,
        "server_images": SERVER_IMAGES,
        "scan_images": SCAN_IMAGES,
        "method": asdict(Differential()),
        "repair": asdict(FIVE_EPOCHS),
        "commit": commit(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, one process at a time",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    options = parser.parse_args()
    results, tasks = {}, []
    for dataset in options.datasets:
        path = RESULTS / f"{dataset}.json"
        done = json.loads(path.read_text())["models"] if path.exists() else {}
        results[dataset] = provenance(dataset) | {"models": done}
        tasks += [
            (dataset, job)
            for job in branches(dataset, RUNS / dataset)
            if job.name not in done and last_model(dataset, job).exists()
        ]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for dataset, name, result in pool.imap(evaluate, tasks):
            results[dataset]["models"][name] = result | {"commit": results[dataset]["commit"]}
            ordered = dict(sorted(results[dataset]["models"].items()))
            write_text(
                RESULTS / f"{dataset}.json",
                json.dumps(results[dataset] | {"models": ordered}, indent=1) + "\n",
            )
            print(
                dataset,
                name,
                {k: result.get(k) for k in ("verdict", "lead", "asr", "repaired_asr")},
                flush=True,
            )


if __name__ == "__main__":
    main()
