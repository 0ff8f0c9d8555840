"""What a guard releases in federations under attack, and how often it holds back an honest round.

    python -m benchmarks.guard.released                       # from the repository's root; hours
    python -m benchmarks.guard.released --only mnist-0-sba    # the cells whose names begin so

Each federation is a line of ``results/released.jsonl``. Those that have one are passed over, and a killed one goes on
after its last round, so delete its folder in ``benchmarks/runs/guard`` if the code has changed since. Set FEDMEND_DATA
to read the datasets from parquet files instead of the hub.

The server pre-trains on 10,000 training images, which no client has, and vouches for that model. It holds 2,000 test
images; accuracy and ASR are measured on 4,000 others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch
from benchmarks.commits import commit
from benchmarks.guard.federations import Cell, cells, seed_of, settings
from benchmarks.guard.rounds import RELEASED, load

from fedmend.checkpoints import save_state
from fedmend.data import ImageSet, load_images
from fedmend.federation import RunFolder, SimulationConfig, simulate
from fedmend.files import write_text
from fedmend.guard import GuardPolicy, History, Line, guarded
from fedmend.local_training import LocalTraining
from fedmend.models import build_model
from fedmend.seeds import generator
from fedmend.version_info import versions

RUNS = Path(__file__).parents[1] / "runs" / "guard"
PRE_TRAINING, OWN, MEASURED = 10_000, 2_000, 4_000


@dataclass(frozen=True, eq=False)
class Images:
    """A dataset, divided.

    Attributes:
        pre_training: the server's training images. clients: the clients'.
        own: the guard's. measured: what accuracy and ASR are measured on.
    """

    pre_training: ImageSet
    clients: ImageSet
    own: ImageSet
    measured: ImageSet


@cache
def images(dataset: str) -> Images:
    """Read and divide a dataset."""
    parts: list[ImageSet] = []
    for split, count, rest in (("train", PRE_TRAINING, None), ("test", OWN, MEASURED)):
        found = load_images(dataset, split)
        order = torch.randperm(len(found), generator=generator(seed_of("parts", dataset, split)))
        parts += [found.subset(order[:count]), found.subset(order[count:][:rest])]
    return Images(*parts)


def pre_trained(dataset: str, seed: int) -> Path:
    """The model that the federation starts from; trained if it isn't there."""
    path = RUNS / f"{dataset}-{seed}-start.safetensors"
    if not path.exists():
        model = build_model("convnet", num_classes=10, in_channels=1, image_size=(28, 28), seed=seed)
        own = images(dataset).pre_training
        LocalTraining(epochs=4, batch_size=32, lr=0.002)(
            model, own.images, own.labels, seed_of(dataset, seed)
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        save_state(model.state_dict(), path)
    return path


def run(cell: Cell) -> dict[str, Any]:
    """Run a cell's federation and return its line."""
    began, parts = time.perf_counter(), images(cell.dataset)
    config, out = settings(cell, pre_trained(cell.dataset, cell.seed)), RUNS / cell.name
    told = {"commit": commit(), "versions": versions()}
    review = {"review": guarded(config, out, parts.own)} if cell.guarded else {}
    done = simulate(config, out, resume=True, data=(parts.clients, parts.measured), **review)
    return {
        "name": cell.name,
        "dataset": cell.dataset,
        "seed": cell.seed,
        "attack": cell.attack,
        "guarded": cell.guarded,
        "repairs": cell.repairs,
        "rounds": rounds(done, History(done.guard).lines() if cell.guarded else ()),
        "settings": _settings(config),
        **told,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - began, 1),
    }


def rounds(done: RunFolder, decisions: tuple[Line, ...]) -> list[dict[str, Any]]:
    """A table for each round, from the start's on: accuracy, ASR before and after the review, and the review."""
    attacked = {each.round: each for each in done.attacker.records()}
    decided = {each.round: each for each in decisions}
    found = []
    for record in done.records():
        row: dict[str, Any] = {"round": record.round, "accuracy": record.accuracy}
        if record.round in attacked:
            hidden = attacked[record.round]
            row["asr"] = hidden.asr[0]
            if hidden.candidate_asr is not None:
                row["candidate_asr"] = hidden.candidate_asr[0]
        if record.round in decided:
            row |= _reviewed(decided[record.round])
        found.append(row)
    return found


def _reviewed(line: Line) -> dict[str, Any]:
    row = {
        "action": line.action,
        "verdict": line.verdict,
        "seconds": round(line.seconds, 1),
        "scans": [
            {
                "reference": each["reference"],
                "verdict": each["verdict"],
                "suspicious": max(
                    (finding["suspicious"] or 0.0 for finding in each["findings"]), default=0.0
                ),
            }
            for each in line.evidence["scans"]
        ],
    }
    return row if line.verdict == "clean" else row | {"reason": line.reason}


def _settings(config: SimulationConfig) -> dict[str, Any]:
    """The settings without paths; the guard's policy with its defaults."""
    table = config.to_dict()
    start = Path(table["model"]["start"]).name
    table["model"]["start"] = start
    if config.guard is not None:
        table["guard"] = GuardPolicy.from_table(config.guard).to_dict() | {"trusted": start}
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of cells' names")
    options = parser.parse_args()
    torch.set_num_threads(1)
    RELEASED.parent.mkdir(exist_ok=True)
    for start in options.only:
        for cell in cells():
            lines = load()
            if not cell.name.startswith(start) or cell.name in {line["name"] for line in lines}:
                continue
            lines.append(run(cell))
            write_text(RELEASED, "".join(json.dumps(line) + "\n" for line in lines))
            last = lines[-1]["rounds"][-1]
            actions = "".join(row["action"][0] for row in lines[-1]["rounds"] if "action" in row)
            print(cell.name, {key: last.get(key) for key in ("accuracy", "asr")}, actions, flush=True)


if __name__ == "__main__":
    main()
