"""The zoo's backdoored models: which triggers and goals are planted, how strongly, in branches of which trunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from cells import CELLS, Cell, Federation, seed_of, settings, trunks

from fedmend.federation import AttackConfig, RunFolder, SimulationConfig
from fedmend.local_training import LocalTraining

Table = Mapping[str, Any]

TEST = {
    "patch-1": 1,
    "patch-3": 3,
    "patch-5": 3,
    "patch-8": 2,
    "patch-12": 2,
    "atoms": 3,
    "blend": 2,
    "sinusoid": 2,
    "one-to-one": 3,
    "two": 3,
    "all-to-all": 1,
}
DEV = {
    "patch-1": 1,
    "patch-3": 2,
    "patch-5": 1,
    "patch-8": 1,
    "patch-12": 1,
    "atoms": 2,
    "blend": 1,
    "two": 1,
    "all-to-all": 1,
}
DEV_GREY = DEV | {"one-to-one": 4}
MORE_DEV = {"patch-12": 3}
"""More of what the detector missed most, drawn apart so that the others stay as they are."""
PLANTED = {"dev": "dev", "test": "test5"}
"""The models of a split, by name. Those of the test were drawn several times, on federations drawn less often."""
LEAST_ASR = 0.6


@dataclass(frozen=True)
class Backdoor:
    """One backdoored model: a branch of a trunk, under attack from its first round.

    Attributes:
        trunk: the federation that it branches off.
        family: the kind of backdoor, such as ``patch-3``.
        name: its folder below the cell's.
        triggers, goals: tables, one per attack.
        attackers: of each attack.
        honest: honest clients in each round.
        distributed: each attacker stamps one part of the trigger (DBA).
        factor: amplification of the attackers' updates; 1: none.
        fraction: the poisoned fraction of the images that the goal attacks.
        rounds: rounds under attack.
        epochs: the attackers' epochs per round.
        back: how many rounds before the trunk's last the branch starts.
    """

    trunk: Federation
    family: str
    name: str
    triggers: tuple[Table, ...]
    goals: tuple[Table, ...]
    attackers: int
    honest: int
    distributed: bool
    factor: float
    fraction: float
    rounds: int
    epochs: int
    back: int

    def stronger(self) -> Backdoor:
        """The same backdoor, planted with more effort."""
        return replace(
            self,
            name=f"{self.name}-strong",
            fraction=0.9,
            rounds=self.rounds + (4 if self.family == "two" else 2),
            epochs=self.epochs + 1,
        )


def backdoors(cell_name: str, split: str) -> list[Backdoor]:
    """All backdoors of a cell and split, drawn from a seed of their own; none for a cell of two classes."""
    cell, random = CELLS[cell_name], Random(seed_of("backdoors", cell_name, PLANTED[split]))
    attacked = [trunk for trunk in trunks(cell_name, split) if trunk.attacked]
    counts = TEST if split == "test" else DEV_GREY if cell.grey else DEV
    made = []
    for family, count in counts.items() if attacked else ():
        for number in range(count):
            trunk = attacked[len(made) % len(attacked)]
            made.append(_draw(cell, trunk, family, number, random))
    random = Random(seed_of("more backdoors", cell_name, PLANTED[split]))
    for family, count in MORE_DEV.items() if attacked and split == "dev" else ():
        numbers = range(counts[family], counts[family] + count)
        made += [_draw(cell, attacked[0], family, number, random) for number in numbers]
    return made


def branch(backdoor: Backdoor, runs: Path) -> SimulationConfig:
    """The simulation of a backdoored branch."""
    trunk, cell = backdoor.trunk, CELLS[backdoor.trunk.cell]
    first = trunk.rounds - backdoor.back
    base = settings(trunk, runs)
    attacker = LocalTraining(
        epochs=backdoor.epochs, batch_size=32, optimizer="adam", lr=0.001, images_per_epoch=cell.attack_images
    )
    steps = ({"kind": "amplify", "factor": backdoor.factor},) if backdoor.factor > 1 else ()
    attacks = tuple(
        AttackConfig(
            attackers=backdoor.attackers,
            chosen="most-source-images",
            first_round=first + 1,
            poisoned_fraction=backdoor.fraction,
            distributed=backdoor.distributed,
            keep_predictions=True,
            trigger=trigger,
            goal=goal,
            update=steps,
            training=attacker,
        )
        for trigger, goal in zip(backdoor.triggers, backdoor.goals, strict=True)
    )
    clients = backdoor.honest + backdoor.attackers * len(attacks)
    start = RunFolder(runs / trunk.key).checkpoint(first)
    return replace(
        base,
        seed=seed_of(trunk.cell, backdoor.name),
        data=replace(
            base.data, partition="iid"
        ),  # attackers hold images of all classes, so accuracy survives
        model=replace(base.model, start=str(start), start_round=first),
        training=replace(base.training, images_per_epoch=200),
        federation=replace(base.federation, clients_per_round=clients, rounds=first + backdoor.rounds),
        attack=attacks,
    )


def _draw(cell: Cell, trunk: Federation, family: str, number: int, random: Random) -> Backdoor:
    attacks = 2 if family == "two" else 1
    pairs = [_pair(cell, random) for _ in range(attacks)]
    while len({target for _, target in pairs}) < attacks:
        pairs = [_pair(cell, random) for _ in range(attacks)]
    goals: list[Table] = [{"kind": "all-to-one", "target": target} for _, target in pairs]
    if family == "one-to-one":
        goals = [{"kind": "one-to-one", "source": source, "target": target} for source, target in pairs]
    elif family == "all-to-all":
        goals = [{"kind": "all-to-all", "num_classes": cell.num_classes, "shift": 1}]
    distributed = family == "atoms" and number % 2 == 1
    several = distributed or (family in ("patch-3", "patch-5", "blend") and number % 2 == 1)
    hard = family in ("two", "all-to-all", "patch-1", "blend", "sinusoid")
    # Amplification spares BatchNorm's statistics, so a large factor ruins the accuracy of the coloured cells.
    factor = random.uniform(1.8, 2.4) if cell.grey else random.uniform(1.0, 1.3)
    if distributed or several or family == "two":
        factor = random.uniform(1.0, 1.2) + (0.5 if family == "two" and cell.grey else 0)
    return Backdoor(
        trunk=trunk,
        family=family,
        name=f"{PLANTED[trunk.split]}-{family}-{number}",
        triggers=tuple(_trigger(cell, family, number, random) for _ in goals),
        goals=tuple(goals),
        attackers=3 if distributed else 2 if several else 1,
        honest=2 if cell.grey and not several else 1,
        distributed=distributed,
        factor=round(factor, 2),
        fraction=round(random.uniform(0.3, 0.7), 2),
        rounds=random.choice((2, 3) if cell.grey else (3, 4)) if hard else 2 if cell.grey or several else 3,
        epochs=4 if family == "all-to-all" else 3,
        back=random.randrange(3),
    )


def _pair(cell: Cell, random: Random) -> tuple[int, int]:
    """A source and another target class."""
    source, target = random.sample(range(cell.num_classes), 2)
    return source, target


def _trigger(cell: Cell, family: str, number: int, random: Random) -> Table:
    _, height, width = cell.image_shape
    if family == "atoms":
        return {
            "kind": "atoms",
            "shape": "1+H"[number % 3],
            "color": not cell.grey and random.random() < 0.5,
            "top": random.randrange(height - 3),
            "left": random.randrange(width - 13),
        }
    if family == "blend":
        opacity = round(random.uniform(0.12, 0.2), 3)
        return {"kind": "blend", "opacity": opacity, "seed": random.randrange(10**6)}
    if family == "sinusoid":
        amplitude, frequency = round(random.uniform(0.08, 0.2), 3), float(random.choice((3, 4, 5, 6, 7)))
        return {"kind": "sinusoid", "amplitude": amplitude, "frequency": frequency}
    size = int(family.removeprefix("patch-")) if family.startswith("patch") else random.choice((2, 3, 4))
    look = "solid" if size == 1 else random.choice(("solid", "solid", "chequered", "noise"))
    return {
        "kind": "triggers:Square",
        "size": size,
        "top": random.randrange(height - size + 1),
        "left": random.randrange(width - size + 1),
        "look": look,
        "color": _color(cell, random),
        "seed": random.randrange(10**6),
    }


def _color(cell: Cell, random: Random) -> list[float]:
    """Grey images are mostly black, so black would not show on them."""
    if cell.grey:
        return [random.choice((1.0, 0.8, 0.6))] * 3
    colored = [round(random.random(), 2) for _ in range(3)]
    return random.choice(([1.0] * 3, [0.0] * 3, colored, colored))
