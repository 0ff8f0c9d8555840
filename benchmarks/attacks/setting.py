"""What a cell is: the settings of an attack, what its paper reports, and when its effect counts as reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

SEEDS = (4, 5, 6)
"""Those that are recorded."""
DEVELOPMENT = 300
"""The seed that settings are chosen on."""
MOST_LOST = 0.05
"""A backdoor counts only if the accuracy falls by no more than this."""
AFTER = 10
"""Honest rounds after an attack that claims to last."""
LASTING = {"neurotoxin": "plain, larger honest steps"}
"""Cells that should leave more after honest rounds than another one in the same federation."""

ARCHITECTURE = "two-conv-8-16"
PATCH = {"kind": "box", "height": 4, "width": 4}
GOAL = {"kind": "all-to-one", "target": 8}
CLIENTS, PER_ROUND = 20, 6
HONEST = {"epochs": 1, "batch_size": 64, "lr": 0.0005, "images_per_epoch": 400}
ATTACKER = {"epochs": 5, "batch_size": 64, "optimizer": "sgd", "lr": 0.02}
LONGER = ATTACKER | {"epochs": 12}


@dataclass(frozen=True)
class Cell:
    """One attack.

    Attributes:
        attack: its table; what it leaves out is as in plain poisoning.
        paper: what the paper reports, in a line.
        least: of the effect, a fraction.
        effect: what is judged: the ASR after the last attacked round, or by how much the accuracy is below the honest
            federation's then.
        aggregation: the rule that is attacked.
        rounds: under attack.
        after: honest rounds that follow.
        per_round: clients in a round.
        training: of honest clients, where it differs from ``HONEST``.
        from_scratch: start from random weights, on data divided by Dirichlet (0.5), not from the pre-trained model.
    """

    attack: dict[str, Any]
    paper: str
    least: float
    effect: Literal["asr", "accuracy lost"] = "asr"
    aggregation: dict[str, Any] = field(default_factory=lambda: {"kind": "uniform"})
    rounds: int = 6
    after: int = 0
    per_round: int = PER_ROUND
    training: dict[str, Any] = field(default_factory=dict)
    from_scratch: bool = False

    def settings(self, seed: int, start: str, *, honest: bool = False) -> dict[str, Any]:
        """The settings of the run, or of the honest one that it is compared with."""
        begin: dict[str, Any] = {"model": {"architecture": ARCHITECTURE, "start": start}}
        if self.from_scratch:
            begin = {
                "model": {"architecture": ARCHITECTURE},
                "data": {"partition": "dirichlet", "alpha": 0.5},
            }
        plain = {
            "trigger": PATCH,
            "goal": GOAL,
            "attackers": 2,
            "poisoned_fraction": 0.5,
            "training": ATTACKER,
        }
        return {
            "seed": seed,
            **begin,
            "training": HONEST | self.training,
            "federation": {
                "clients": CLIENTS,
                "clients_per_round": self.per_round,
                "rounds": self.rounds + self.after,
            },
            "aggregation": self.aggregation,
            "attack": [] if honest else [plain | self.attack | {"last_round": self.rounds}],
        }
