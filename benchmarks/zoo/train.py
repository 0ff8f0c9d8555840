"""Train the zoo, each model on one core; a killed run goes on where it was.

    python benchmarks/zoo/train.py --workers 2

Set FEDMEND_DATA to read the datasets from parquet files, and ZOO_RUNS to write elsewhere than benchmarks/runs/zoo.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import backdoors
import pairs
import torch
from cells import CELLS, SMALL_CELLS, Cell, Federation, settings, small_federations, trunks
from central_training import MEASURED, distil, measured_accuracy, start
from jobs import Job, results
from load import INDEX, RUNS, Item, attack_images, items, model, training_images

from fedmend.data import ImageSet
from fedmend.errors import ModelError
from fedmend.evaluation import attack_success_rate
from fedmend.federation import RunFolder, SimulationConfig, simulate
from fedmend.goals import attacked, targets_of

RECORDED = 500
STEPS = (
    ("dev", ("mnist-convnet", "gtsrb-vgg", "cifar-resnet18", "fashion-three-conv", "mnist-groupnorm")),
    ("test", ("mnist-convnet", "gtsrb-vgg", "cifar-resnet18", "fashion-three-conv", "mnist-groupnorm")),
    ("test", ("cifar-vit",)),
)


@dataclass(frozen=True)
class Zoo:
    """What is done already, and how the rest is trained.

    Attributes:
        done: cell and name of each item that is listed.
    """

    done: frozenset[tuple[str, str]]

    def jobs(self, cell: str, split: str) -> list[Job]:
        """A cell's trunks with their pairs, then its backdoored models, then the honest branches."""
        main = trunks(cell, split)
        made = self._federations(main)
        made += [
            Job(f"{cell}/{each.name}", self.backdoor, (each,), (each.trunk.key,))
            for each in backdoors.backdoors(cell, split)
        ]
        made += [
            Job(f"{cell}/{pair.name}", self.honest_branch, (trunk, pair), (trunk.key,))
            for trunk in main
            if trunk.attacked
            for pair in pairs.branch_pairs(trunk)
        ]
        return made

    def small_jobs(self, cell: str, split: str) -> list[Job]:
        """A cell's many cheap federations."""
        return self._federations(small_federations(cell, split))

    def _federations(self, federations: list[Federation]) -> list[Job]:
        """Honest federations, each after its start, and the pairs of two of them."""
        starts = {f"{each.cell}/{each.start}": each for each in federations}
        made = [Job(name, start, (each,)) for name, each in starts.items()]
        made += [
            Job(each.key, self.federation, (each,), (f"{each.cell}/{each.start}",)) for each in federations
        ]
        first = federations[:6]
        apart = Job(
            f"{first[0].key}, seeds", self.pairs, (pairs.seed_pairs(first),), tuple(e.key for e in first)
        )
        return [*made, apart]

    def federation(self, federation: Federation) -> list[Item]:
        """An honest federation, and the pairs of its rounds."""
        run(settings(federation, RUNS), federation.key, CELLS[federation.cell])
        return self.pairs(pairs.round_pairs(federation))

    def honest_branch(self, trunk: Federation, pair: pairs.Pair) -> list[Item]:
        """One of a trunk's honest branches."""
        if (pair.cell, pair.name) in self.done:
            return []
        if pair.family == "distilled":
            distil(trunk, pair)
        else:
            run(pairs.branch(trunk, pair, RUNS), str(pair.suspect.parents[1]), CELLS[trunk.cell])
        return self.pairs([pair])

    def pairs(self, made: list[pairs.Pair]) -> list[Item]:
        """Clean pairs, measured."""
        return [
            Item(
                cell=pair.cell,
                split=pair.split,
                kind="clean",
                family=pair.family,
                name=pair.name,
                suspect=str(pair.suspect),
                reference=str(pair.reference),
                federation=pair.federation,
                accuracy=measured_accuracy(CELLS[pair.cell], str(pair.suspect)),
                reference_accuracy=measured_accuracy(CELLS[pair.cell], str(pair.reference)),
            )
            for pair in made
            if (pair.cell, pair.name) not in self.done
        ]

    def backdoor(self, backdoor: backdoors.Backdoor) -> list[Item]:
        """A backdoored branch; once more, with more effort, if its attack fails."""
        attempts = (backdoor, backdoor.stronger())
        if any((each.trunk.cell, each.name) in self.done for each in attempts):
            return []
        for attempt in attempts:
            try:
                item = planted(attempt)
            except ModelError as error:
                print(f"{attempt.trunk.cell} {attempt.name}: {error}", flush=True)
                continue
            if not item.failed or attempt is attempts[1]:
                return [item]
        return []


def add(item: Item) -> None:
    """List an item."""
    with INDEX.open("a", encoding="utf-8") as index:
        index.write(json.dumps(asdict(item)) + "\n")
    if item.kind == "backdoored" or item.family not in ("rounds", "non-iid"):
        rates = " ".join(f"{rate:.2f}" for rate in item.asr)
        print(
            f"{time.strftime('%H:%M:%S')} {item.cell} {item.name}: {item.reference_accuracy:.3f} -> "
            f"{item.accuracy:.3f}, ASR {rates or '-'}{' failed' * item.failed}",
            flush=True,
        )


def planted(backdoor: backdoors.Backdoor) -> Item:
    """Train a backdoored branch and measure it."""
    trunk, cell = backdoor.trunk, CELLS[backdoor.trunk.cell]
    config = backdoors.branch(backdoor, RUNS)
    key = f"{trunk.cell}/{backdoor.name}"
    run(config, key, cell)
    folder, last = RunFolder(Path(key)), config.federation.rounds
    item = Item(
        cell=trunk.cell,
        split=trunk.split,
        kind="backdoored",
        family=backdoor.family,
        name=backdoor.name,
        suspect=str(folder.checkpoint(last)),
        reference=str(RunFolder(Path(trunk.key)).checkpoint(config.model.start_round)),
        federation=trunk.key,
        goal=tuple(map(dict, backdoor.goals)),
        trigger=tuple(map(dict, backdoor.triggers)),
    )
    rates = success(item, item.suspect)
    before = str(folder.checkpoint(last - 1)) if backdoor.rounds > 1 else None
    if before is not None and min(success(item, before)) < 0.7:
        before = None
    return Item(
        **(
            vars(item)
            | {
                "asr": rates,
                "accuracy": measured_accuracy(cell, item.suspect),
                "reference_accuracy": measured_accuracy(cell, item.reference),
                "both_previous": before,
                "failed": min(rates) < backdoors.LEAST_ASR,
            }
        )
    )


def success(item: Item, checkpoint: str) -> tuple[float, ...]:
    """The ASR of each of an item's attacks in a checkpoint."""
    net, images, rates = model(CELLS[item.cell], checkpoint), item.attack_images(), []
    for trigger, goal in item.attacks():
        chosen = attacked(targets_of(goal, images.labels), images.labels).nonzero().flatten()[:MEASURED]
        rates.append(
            round(attack_success_rate(net, trigger, goal, images.images[chosen], images.labels[chosen]), 4)
        )
    return tuple(rates)


@cache
def recorded_images(cell: Cell) -> ImageSet:
    """Few images for the lines that a simulation writes each round; goals need one of each class."""
    images = attack_images(cell)
    one_each = torch.stack([(images.labels == label).nonzero()[0, 0] for label in range(images.num_classes)])
    return images.subset(torch.cat([one_each, torch.arange(RECORDED)]))


def run(config: SimulationConfig, key: str, cell: Cell) -> None:
    """Run a simulation with the cell's images, already in memory."""
    simulate(config, RUNS / key, resume=True, data=(training_images(cell), recorded_images(cell)))


def all_jobs(zoo: Zoo, cells: Collection[str], splits: Collection[str]) -> list[Job]:
    """What is trained, most useful first."""
    made = []
    for split, first in STEPS:
        if split not in splits:
            continue
        made += [job for cell in first if cell in cells for job in zoo.jobs(cell, split)]
        if first == ("cifar-vit",):
            continue
        made += [job for cell in SMALL_CELLS if cell in cells for job in zoo.small_jobs(cell, split)]
        two = [cell for cell in cells if CELLS[cell].classes and split in pairs.splits(cell)]
        made += [job for cell in two for job in zoo.jobs(cell, split)]
    return made


def needed(jobs: list[Job], families: Collection[str]) -> list[Job]:
    """The jobs that plant a backdoor of a family, and those they wait for."""
    wanted = {
        job.name
        for job in jobs
        if any(isinstance(each, backdoors.Backdoor) and each.family in families for each in job.arguments)
    }
    before: set[str] = set()
    while before != wanted:
        before = set(wanted)
        wanted |= {after for job in jobs if job.name in before for after in job.after}
    return [job for job in jobs if job.name in wanted]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--split", nargs="+", choices=("dev", "test"), default=("dev", "test"))
    parser.add_argument(
        "--families", nargs="+", help="of backdoors, with the federations they need; all by default"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    zoo = Zoo(frozenset((item.cell, item.name) for item in items(failed=True)))
    jobs = all_jobs(zoo, options.cells, options.split)
    if options.families:
        jobs = needed(jobs, options.families)
    for made in results(jobs, options.workers):
        for item in made or ():
            add(item)


if __name__ == "__main__":
    main()
