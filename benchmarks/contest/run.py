"""Run the contest's federations, the chosen ones first.

    python -m benchmarks.contest.run                                   # from the repository's root; hours
    python -m benchmarks.contest.run --only fashion-mnist-iid-fedavg   # those whose names begin so
    python -m benchmarks.contest.run --all                             # also those that aren't chosen; weeks

Each federation is a line of ``results/contest.jsonl``. Those that have one are passed over, and a killed one goes on
after its last round, so delete ``benchmarks/runs/contest`` if the code has changed since. Set FEDMEND_DATA to read the
datasets from parquet files instead of the hub.

The server pre-trains on 10,000 training images, which no client has, and vouches for that model. It holds 2,000 test
images; accuracy and ASR are measured on 4,000 others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

import torch
from benchmarks.commits import commit
from benchmarks.contest.federations import (
    DATASETS,
    SHAPES,
    STARTS,
    Federation,
    cell,
    chosen,
    federations,
    start_of,
)
from benchmarks.contest.lines import FILE, RESULTS, as_line, load
from benchmarks.guard.released import images

from fedmend.checkpoints import save_state
from fedmend.comparison import CellImages, CellSettings, ComparisonFolder, Results, Running, run_cells
from fedmend.federation import SimulationConfig
from fedmend.files import write_text
from fedmend.local_training import LocalTraining
from fedmend.models import build_model
from fedmend.version_info import versions

EPOCHS = {"fashion-mnist": 4, "cifar10": 12}


def cell_images(config: SimulationConfig) -> CellImages:
    """A dataset's images for clients, measurement and server."""
    parts = images(config.data.source)
    return CellImages(parts.clients, parts.measured, parts.own)


def pre_train(dataset: str) -> None:
    """Train the model that a dataset's federations start from, unless it is there."""
    if start_of(dataset).exists():
        return
    channels, *size = SHAPES[dataset]
    model = build_model(
        "convnet", num_classes=10, in_channels=channels, image_size=(size[0], size[1]), seed=0
    )
    own = images(dataset).pre_training
    LocalTraining(epochs=EPOCHS[dataset], batch_size=32, lr=0.002)(model, own.images, own.labels, 0)
    start_of(dataset).parent.mkdir(parents=True, exist_ok=True)
    save_state(model.state_dict(), start_of(dataset))


def selected(beginnings: Sequence[str], every: bool) -> list[Federation]:
    """The federations to run, in their order."""
    names = {name for each in chosen() for name in (each.name, each.honest().name)}
    return [
        each
        for each in federations()
        if (every or each.name in names) and each.name.startswith(tuple(beginnings))
    ]


def write(names: dict[str, str], results: Results) -> None:
    """Add the lines of the results that have none; ``names`` are the federations' by their cells' keys."""
    lines = load()
    for key, result in results.items():
        if names[key] not in lines and result.ended != "failed":
            lines[names[key]] = as_line(
                names[key],
                result,
                commit=commit(),
                versions=versions(),
                machine=f"{platform.machine()}, {os.cpu_count()} cores, one thread per federation",
                date=datetime.now(UTC).isoformat(timespec="seconds"),
            )
    write_text(RESULTS / FILE, "".join(json.dumps(line) + "\n" for line in lines.values()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of federations' names")
    parser.add_argument("--all", action="store_true", help="also those that aren't chosen")
    parser.add_argument("--workers", type=int, default=1, help="how many federations run at once")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = load()
    waiting = [each for each in selected(options.only, options.all) if each.name not in known]
    for dataset in DATASETS:
        if any(each.dataset == dataset for each in waiting):
            pre_train(dataset)
    cells = [cell(each) for each in waiting]
    names = {made.key: each.name for made, each in zip(cells, waiting, strict=True)}
    running = Running(
        options.workers,
        CellSettings(images=cell_images),
        progress=lambda stage, done, total: print(f"{done} of {total} {stage}", flush=True),
        on_result=partial(write, names),
    )
    run_cells(cells, ComparisonFolder(STARTS), running)


if __name__ == "__main__":
    main()
