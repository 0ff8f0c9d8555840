"""The federations of the contrastive paper's experiments: shared clean trunks, and branches that go on from them.

Only federations of one scale share a trunk. Every branch has a seed of its own, and so other clients and another order
of images than any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.detection.models import trunk as mnist_trunk
from benchmarks.paper_a.scales import Scale

from fedmend.federation import (
    AttackConfig,
    DataConfig,
    FederationConfig,
    ModelConfig,
    SimulationConfig,
)
from fedmend.seeds import derive_seed

SHAPES = {"one": "1", "plus": "+", "h": "H"}
REPETITIONS = 10
"""Models of each trigger's shape and kind of attack, and three times as many clean ones: 30 each, as in Table 4."""
SIZES = (2, 4, 8, 12)
CLIENTS = {50: (15, 56, 150), 100: (30, 93, 250)}
"""Clients: how many are active in a round, the last clean round and the last round (A.4)."""
PARTITIONS = {
    "k-label": DataConfig(partition="k-label", labels_per_client=3),
    "dirichlet-0.5": DataConfig(partition="dirichlet", alpha=0.5),
    "dirichlet-0.1": DataConfig(partition="dirichlet", alpha=0.1),
}
SHORT = 3
"""Honest rounds that a short scale gives such a federation of its own before the attack."""


@dataclass(frozen=True)
class Federation:
    """One federation to run.

    Attributes:
        name: its folder below the scale's.
        study: what it is for: ``trunk``, ``sba``, ``dba``, ``clean``, ``size``, ``clients``, ``partition`` or
            ``from-start``.
        config: its settings.
        trunk: the name of the federation that it goes on from, whose last model is the clean reference.
        pretrained: whether it starts from the scale's central pre-training.
    """

    name: str
    study: str
    config: SimulationConfig
    trunk: str = ""
    pretrained: bool = False

    @property
    def backdoored(self) -> bool:
        """Whether it is attacked."""
        return bool(self.config.attack)

    @property
    def kind(self) -> str:
        """``sba``, ``dba`` or ``clean``."""
        if not self.config.attack:
            return "clean"
        return "dba" if self.config.attack[0].distributed else "sba"


def trunks(scale: Scale, runs: Path) -> dict[str, Federation]:
    """The honest federations that others go on from, by name; the first is what the others go on from."""
    if scale.start_lrs:
        config = SimulationConfig(
            seed=_seed(scale, "trunk"),
            data=DataConfig(source=scale.dataset),
            model=ModelConfig(
                architecture=scale.architecture,
                arguments=scale.arguments,
                start=str(runs / "start.safetensors"),
            ),
            training=scale.training,
            federation=FederationConfig(rounds=scale.trunk_rounds),
        )
        made = {"trunk": Federation("trunk", "trunk", config, pretrained=True)}
    else:
        made = {"trunk": Federation("trunk", "trunk", mnist_trunk(scale.dataset).config)}
    first = made["trunk"]
    for clients, (active, last, _) in CLIENTS.items():
        name = f"trunk-{clients}"
        began = scale.trunk_rounds if scale.full else last - SHORT
        config = _after(scale, first, runs, name, began, last)
        config = replace(config, federation=FederationConfig(clients, active, last))
        made[name] = Federation(name, "trunk", config, "trunk")
    for partition, data in PARTITIONS.items():
        name, began = f"trunk-{partition}", scale.trunk_rounds
        config = _after(scale, first, runs, name, began, began + SHORT)
        made[name] = Federation(
            name, "trunk", replace(config, data=replace(data, source=scale.dataset)), "trunk"
        )
    return made


def branches(scale: Scale, runs: Path) -> list[Federation]:
    """All federations that are judged, most decisive first."""
    made, base = [], trunks(scale, runs)
    for index in range(REPETITIONS):
        made += _table_4(scale, base["trunk"], runs, index)
        if index < 3:
            made += _studies(scale, base, runs, index)
    return made


def _table_4(scale: Scale, trunk: Federation, runs: Path, index: int) -> list[Federation]:
    """An SBA and a DBA with each trigger, and as many clean branches."""
    made = []
    for number, (shape, letter) in enumerate(SHAPES.items()):
        for kind in ("sba", "dba"):
            name = f"{kind}-{shape}-{index}"
            trigger = {"kind": "atoms", "shape": letter, "color": kind == "dba"} | _place(scale, index)
            made.append(_branch(scale, trunk, runs, Federation(name, kind, trunk.config), trigger))
        name = f"clean-{3 * index + number}"
        made.append(_branch(scale, trunk, runs, Federation(name, "clean", trunk.config)))
    return made


def _studies(scale: Scale, base: Mapping[str, Federation], runs: Path, index: int) -> list[Federation]:
    """Appendix A.4, and what the paper's reviewers asked for: each by SBA, and a clean branch where it has a trunk."""
    _, height, width = scale.image_shape
    made = []
    for size in SIZES:
        trigger = {
            "kind": "box",
            "height": size,
            "width": size,
            "top": height - size - 1,
            "left": width - size - 1,
        }
        one = Federation(f"size-{size}-{index}", "size", base["trunk"].config)
        made.append(_branch(scale, base["trunk"], runs, one, trigger))
    atoms = {"kind": "atoms", "shape": "1"} | _place(scale, index)
    for name, trunk in list(base.items())[1:]:
        own = name.removeprefix("trunk-")
        study = "clients" if own.isdecimal() else "partition"
        for kind, trigger in (("", atoms), ("clean-", None)):
            one = Federation(f"{kind}{own}-{index}", study, trunk.config)
            made.append(_branch(scale, trunk, runs, one, trigger))
    one = Federation(f"from-start-{index}", "from-start", base["trunk"].config)
    attacked = _branch(scale, base["trunk"], runs, one, atoms)
    first = base["trunk"].config
    rounds = scale.trunk_rounds if scale.full else 8
    config = replace(
        attacked.config,
        model=replace(first.model, start=None),
        federation=replace(first.federation, rounds=rounds),
        attack=(replace(attacked.config.attack[0], first_round=1),),
    )
    return [*made, replace(attacked, config=config)]


def _place(scale: Scale, index: int) -> dict[str, int]:
    """Where the atoms are: they move from model to model, along the images' upper or lower edge."""
    _, height, width = scale.image_shape
    return {"top": (2, height - 5)[index % 2], "left": 2 + 2 * index % (width - 16)}


def _branch(
    scale: Scale, trunk: Federation, runs: Path, one: Federation, trigger: Mapping[str, Any] | None = None
) -> Federation:
    """A federation that goes on from the trunk's last round, attacked if there is a trigger."""
    began = trunk.config.federation.rounds
    last = began + scale.rounds
    clients = trunk.config.federation.clients
    if scale.full and clients in CLIENTS:
        last = CLIENTS[clients][2]
    config = _after(scale, trunk, runs, one.name, began, last)
    attack: tuple[AttackConfig, ...] = ()
    if trigger is not None:
        distributed = one.study == "dba"
        attack = (
            AttackConfig(
                attackers=3 if distributed else 1,
                distributed=distributed,
                first_round=began + 1,
                trigger=trigger,
                goal={"kind": "all-to-one", "target": _seed(scale, one.name, "target") % scale.num_classes},
                update=({"kind": "amplify", "factor": scale.amplification["dba" if distributed else "sba"]},),
            ),
        )
    return replace(one, config=replace(config, attack=attack), trunk=trunk.name)


def _after(scale: Scale, trunk: Federation, runs: Path, name: str, began: int, last: int) -> SimulationConfig:
    """A trunk's settings, from its last model on."""
    base = trunk.config
    return replace(
        base,
        seed=_seed(scale, name),
        training=scale.training,
        model=replace(
            base.model,
            start=str(checkpoint(runs, trunk)),
            start_round=began,
        ),
        federation=replace(base.federation, rounds=last),
    )


def checkpoint(runs: Path, federation: Federation) -> Path:
    """A federation's last model."""
    rounds = federation.config.federation.rounds
    return runs / federation.name / "checkpoints" / f"round-{rounds:04d}.safetensors"


def _seed(scale: Scale, *names: str) -> int:
    return derive_seed(0, "paper_a", scale.name, *names) % 2**32
