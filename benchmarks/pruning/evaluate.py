"""Repair the models of the pruning benchmark; results/<part>.json grows as they come.

    python benchmarks/pruning/evaluate.py fashion mnist --workers 2

Run train.py first. A recipe that has a result with its settings as they are now is passed over, so a killed run goes
on where it was. The server's 1,000 validation images and the 9,000 on which accuracy and attack success are
measured come from the test split and have none in common. No recipe sees the trigger or the 9,000. The gate judges by
the validation images as well, not by held-out ones, as when the published figures were made; they measure the models
after each stage, which the gate has no part in.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from train import BRANCHES, RUNS, arguments

from fedmend import accuracy, attack_success_rate, load_images
from fedmend.data import ImageSet, stratified
from fedmend.detection import Case
from fedmend.federation import RunFolder, load_attacks, load_federation
from fedmend.files import write_text
from fedmend.repairs import (
    PAPER_RECIPE,
    FederatedPruning,
    PruningDetails,
    Stage,
    ValidationSet,
    participants_of,
    repair_by_votes,
    round_model,
)
from fedmend.seeds import generator
from models import Job, goes_on

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit

RESULTS = Path(__file__).parent / "results"


COMMIT = commit()
VALIDATION_IMAGES = 1000
LYING_CLIENTS = 3
LYING_CLIENTS_RECIPE = "fedmend, liars"
NO_IMAGES_RECIPE = "fedmend, no images"
NO_IMAGES_PAIRS = ("fashion-mnist-2-3/9-0", "fashion-mnist-2-3/9-1", "fashion-mnist-2-3/9-7")
LIVE_SIGMA = replace(PAPER_RECIPE, pruning=replace(PAPER_RECIPE.pruning, live_only=True))
RECIPES = {
    "paper, ranking vote": replace(LIVE_SIGMA, fine_tuning_rounds=0),
    "paper, mu and sigma over all weights": replace(PAPER_RECIPE, fine_tuning_rounds=0),
    "paper, majority vote": replace(LIVE_SIGMA, vote="majority", fine_tuning_rounds=0),
    "paper, fine-tuned": LIVE_SIGMA,
    "paper as written, fine-tuned": PAPER_RECIPE,
    "fedmend": FederatedPruning(),
    LYING_CLIENTS_RECIPE: FederatedPruning(),
    NO_IMAGES_RECIPE: FederatedPruning(),
}
PAPER_RECIPES = [name for name in RECIPES if name.startswith("paper")]


def evaluate(task: tuple[Job, list[str]]) -> tuple[str, dict[str, Any]]:
    """Some recipes on one model."""
    job, names = task
    torch.set_num_threads(1)
    train = load_images(job.config.data.source, "train")
    validation, others = test_images(job.config.data.source)
    run = RunFolder(RUNS / job.name)
    (attack,) = load_attacks(run, train)
    result: dict[str, Any] = {
        "victim": attack.config.goal["source"],
        "target": attack.config.goal["target"],
        "shape": attack.config.trigger["pattern"],
    }
    suspect, figures_of_suspect = round_model(run, train), None
    for name in names:
        federation = load_federation(
            run, train, lying_clients=LYING_CLIENTS if name == LYING_CLIENTS_RECIPE else 0
        )
        case, participants = Case(suspect), participants_of(run, federation)
        if name != NO_IMAGES_RECIPE:
            case = Case(suspect, images=validation.images, labels=validation.labels)
            chooses = ValidationSet(validation.images, validation.labels)
            participants = replace(participants, validation=chooses)
        started = time.perf_counter()
        _, report, stages = repair_by_votes(case, participants, RECIPES[name])
        seconds = time.perf_counter() - started
        details = report.details
        assert isinstance(details, PruningDetails)
        figures = [
            (
                accuracy(model, others.images, others.labels),
                attack_success_rate(model, attack.trigger, attack.goal, others.images, others.labels),
            )
            for model in list(stages.values())[0 if figures_of_suspect is None else 1 :]
        ]
        figures_of_suspect, *later = figures if figures_of_suspect is None else [figures_of_suspect, *figures]
        result[name] = {
            "settings": json.loads(json.dumps(asdict(RECIPES[name]))),
            "outcome": report.outcome,
            "pruned": len(details.pruned),
            "found": [
                [move.best.source_class, move.best.target_class, move.best.rate] for move in details.moves[:3]
            ],
            "stages": [
                stage_of(stage, *measured)
                for stage, measured in zip(details.stages, [figures_of_suspect, *later], strict=True)
            ],
            "seconds": seconds,
            "commit": COMMIT,
        }
    return job.name, result


def test_images(source: str) -> tuple[ImageSet, ImageSet]:
    """The server's validation images, and those to measure on."""
    test = load_images(source, "test")
    own = stratified(test, VALIDATION_IMAGES, generator(0, "validation"))
    rest = torch.ones(len(test), dtype=torch.bool).index_fill_(0, own, False)
    return test.subset(own), test.subset(rest.nonzero().flatten())


def stage_of(stage: Stage, clean: float, asr: float) -> dict[str, Any]:
    return {"name": stage.name, "zeroed": stage.zeroed, "delta": stage.delta, "accuracy": clean, "asr": asr}


def main() -> None:
    options = arguments(__doc__)
    # One kind of recipe on all models after the other, so that a run that is stopped has the first of all.
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for names in (["fedmend"], [LYING_CLIENTS_RECIPE], [NO_IMAGES_RECIPE], PAPER_RECIPES):
            for part in options.parts:
                path = RESULTS / f"{part}.json"
                file = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"models": {}}
                trained = [job for job in BRANCHES[part] if is_trained(job)]
                if names == [NO_IMAGES_RECIPE]:
                    trained = [job for job in trained if job.name in NO_IMAGES_PAIRS]
                missing = [(job, missing_of(file["models"].get(job.name, {}), names)) for job in trained]
                for name, result in pool.imap_unordered(evaluate, [task for task in missing if task[1]]):
                    file |= {
                        "machine": f"{platform.machine()}, one core a model",
                        "python": platform.python_version(),
                        "torch": torch.__version__,
                    }
                    kept = file["models"].get(name, {})
                    file["models"][name] = kept | result
                    write_text(path, json.dumps(file, indent=1) + "\n")
                    done = [f"{key}: {last(result[key])}" for key in RECIPES if key in result]
                    print(name, *done, sep="; ", flush=True)


def is_trained(job: Job) -> bool:
    run = RunFolder(RUNS / job.name)
    done = run.last_round() or 0
    return done >= job.config.federation.rounds and goes_on(job, run.attacker.records()) is None


def missing_of(model: dict[str, Any], names: list[str]) -> list[str]:
    """The recipes that have no result yet with their settings as they are now."""
    return [
        name
        for name in names
        if model.get(name, {}).get("settings") != json.loads(json.dumps(asdict(RECIPES[name])))
    ]


def last(recipe: dict[str, Any]) -> str:
    stage = recipe["stages"][-1]
    return f"{stage['accuracy']:.1%} / {stage['asr']:.1%}"


if __name__ == "__main__":
    main()
