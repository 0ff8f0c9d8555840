"""The zoo's clean pairs: an honest suspect and an honest reference, as a detector may meet them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

from cells import CELLS, SMALL_CELLS, Federation, seed_of, settings, small_federations, trunks

from fedmend.federation import RunFolder, SimulationConfig

GAPS = (1, 2, 5, 10, 20)
BRANCH_ROUNDS = 2
BRANCHES = ("fine-tuned", "learning-rate")
DISTILLED = 2


@dataclass(frozen=True)
class Pair:
    """Two honest models.

    Attributes:
        cell, split: of both.
        family: how the suspect differs from the reference.
        name: unique within the cell.
        federation: the federation, or the two of them, that they come from.
        suspect, reference: paths below the zoo's folder.
    """

    cell: str
    split: str
    family: str
    name: str
    federation: str
    suspect: Path
    reference: Path


def round_pairs(federation: Federation) -> list[Pair]:
    """A federation's late rounds against earlier ones."""
    ends = (federation.rounds,) if federation.small else (federation.rounds, federation.rounds - 3)
    family = "two-class" if CELLS[federation.cell].classes else "rounds"
    if federation.partition in ("k-label-2", "dirichlet-0.1"):
        family = "non-iid"
    return [
        _pair(
            federation, family, f"{end}-{end - gap}", _round(federation, end), _round(federation, end - gap)
        )
        for end in ends
        for gap in GAPS
        if end - gap >= 1
    ]


def seed_pairs(federations: list[Federation]) -> list[Pair]:
    """Each federation's last round against that of the next, another federation of the same cell and split."""
    pairs = []
    for suspect, reference in itertools.pairwise(federations):
        pair = _pair(
            suspect,
            "another-seed",
            reference.name,
            _round(suspect, suspect.rounds),
            _round(reference, reference.rounds),
        )
        pairs.append(replace(pair, federation=f"{suspect.key}+{reference.key}"))
    return pairs


def branch_pairs(trunk: Federation) -> list[Pair]:
    """Honest branches of a trunk's last round, against that round."""
    names = [f"{family}-{number}" for family in BRANCHES for number in range(2)]
    pairs = [
        _pair(
            trunk,
            name.rpartition("-")[0],
            name,
            RunFolder(Path(f"{trunk.key}-{name}")).checkpoint(trunk.rounds + BRANCH_ROUNDS),
            _round(trunk, trunk.rounds),
        )
        for name in names
    ]
    return pairs + [
        _pair(
            trunk,
            "distilled",
            f"distilled-{number}",
            Path(f"{trunk.key}-distilled-{number}.safetensors"),
            _round(trunk, trunk.rounds),
        )
        for number in range(DISTILLED)
    ]


def branch(trunk: Federation, pair: Pair, runs: Path) -> SimulationConfig:
    """The simulation of an honest branch: other clients, and for ``learning-rate`` a four times larger step."""
    base = settings(trunk, runs)
    faster = 4.0 if pair.family == "learning-rate" else 1.0
    return replace(
        base,
        seed=seed_of(pair.cell, pair.name),
        model=replace(base.model, start=str(runs / pair.reference), start_round=trunk.rounds),
        training=replace(base.training, lr=base.training.lr * faster),
        federation=replace(base.federation, rounds=trunk.rounds + BRANCH_ROUNDS),
    )


def all_pairs() -> list[Pair]:
    """Every clean pair of the zoo."""
    pairs = []
    for cell in CELLS:
        for split in splits(cell):
            main = trunks(cell, split)
            small = small_federations(cell, split) if cell in SMALL_CELLS else []
            pairs += [pair for federation in (*main, *small) for pair in round_pairs(federation)]
            pairs += seed_pairs(main) + seed_pairs(small[:6])
            pairs += [pair for trunk in main if trunk.attacked for pair in branch_pairs(trunk)]
    return pairs


def splits(cell: str) -> tuple[str, ...]:
    """The splits that a cell has federations in."""
    if CELLS[cell].classes:
        return ("dev",) if cell == "mnist-0-1" else ("test",)
    return ("test",) if cell == "cifar-vit" else ("dev", "test")


def _round(federation: Federation, number: int) -> Path:
    return RunFolder(Path(federation.key)).checkpoint(number)


def _pair(federation: Federation, family: str, name: str, suspect: Path, reference: Path) -> Pair:
    return Pair(
        cell=federation.cell,
        split=federation.split,
        family=family,
        name=f"{federation.name}-{name}",
        federation=federation.key,
        suspect=suspect,
        reference=reference,
    )
