"""The settings of each attack, what its paper reports, and when its effect counts as reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

HONEST_ROUNDS = 10
CLIENTS, PER_ROUND = 20, 10
PATCH = {"kind": "box", "height": 4, "width": 4}
GOAL = {"kind": "all-to-one", "target": 2}


def base(rounds: int) -> dict[str, Any]:
    """An honest federation of small networks."""
    return {
        "seed": 3,
        "model": {"architecture": "two-conv-8-16"},
        "training": {"epochs": 1, "batch_size": 32, "optimizer": "sgd", "lr": 0.05, "images_per_epoch": 256},
        "federation": {"clients": CLIENTS, "clients_per_round": PER_ROUND, "rounds": rounds},
        "aggregation": {"kind": "uniform"},
    }


@dataclass(frozen=True)
class Cell:
    """One attack.

    Attributes:
        attack: its table.
        paper: what the paper reports, in a line.
        effect: what is judged: the ASR at the end, or by how much the accuracy fell below the honest federation's.
        least: of the effect, a fraction.
        aggregation: the rule that is attacked.
        rounds: under attack.
        compared: also run the honest federation under the same rule.
    """

    attack: dict[str, Any]
    paper: str
    effect: Literal["asr", "accuracy lost"] = "asr"
    least: float = 0.8
    aggregation: dict[str, Any] = field(default_factory=lambda: {"kind": "uniform"})
    rounds: int = 5
    compared: bool = False

    def settings(self, start: Path, compared: bool = False) -> dict[str, Any]:
        """The settings of the run, or of the honest one that it is compared with."""
        settings = base(HONEST_ROUNDS + self.rounds)
        settings["model"] |= {"start": str(start), "start_round": HONEST_ROUNDS}
        settings["aggregation"] = dict(self.aggregation)
        if not compared:
            chosen = {"trigger": PATCH, "goal": GOAL, "attackers": 2, "first_round": HONEST_ROUNDS + 1}
            settings["attack"] = [chosen | self.attack]
        return settings


def untargeted(kind: str, rule: dict[str, Any], paper: str, least: float, **more: Any) -> Cell:
    """Three of ten clients that collude to spoil the model under a rule, for ten rounds."""
    attack = {"attackers": 3, "collusion": {"kind": kind, **more}}
    return Cell(attack, paper, "accuracy lost", least, rule, rounds=10, compared=True)


CELLS = {
    "constrain-and-scale": Cell(
        {
            "attackers": 1,
            "method": {"kind": "constrain-and-scale", "alpha": 0.7},
            "update": [{"kind": "amplify", "factor": 10.0}],
            "keep_predictions": True,
        },
        "backdoor accuracy near 100 % after one round",
    ),
    "stealthy": Cell(
        {"method": {"kind": "stealthy", "boost": 5.0, "distance": 0.01}},
        "the malicious objective is met with confidence near 1",
    ),
    "alternating": Cell(
        {"method": {"kind": "alternating", "boost": 5.0, "distance": 0.01}},
        "the malicious objective is met with confidence near 1",
    ),
    "fang-krum": untargeted(
        "fang-krum", {"kind": "krum", "byzantine": 0.3}, "Krum's error rate rises to 0.6 or more", 0.2
    ),
    "fang-trimmed-mean": untargeted(
        "fang-trimmed-mean",
        {"kind": "trimmed-mean", "trim": 0.3},
        "error rate on Fashion-MNIST 0.21 to 0.52",
        0.2,
    ),
    "fang-median": untargeted(
        "fang-median", {"kind": "median"}, "error rate on Fashion-MNIST 0.20 to 0.45", 0.2
    ),
    "a-little-is-enough": untargeted(
        "a-little-is-enough",
        {"kind": "trimmed-mean", "trim": 0.3},
        "accuracy on MNIST falls by 10 points and more at z = 1.5",
        0.1,
        z=1.5,
        omniscient=True,
    ),
    "a-little-is-enough, backdoor": Cell(
        {
            "attackers": 3,
            "poisoned_fraction": 1.0,
            "collusion": {"kind": "a-little-is-enough", "z": 1.5, "backdoor": True, "omniscient": True},
        },
        "backdoors are planted within 1.5 deviations",
        rounds=10,
        least=0.5,
    ),
    "neurotoxin": Cell(
        {"method": {"kind": "neurotoxin", "fraction": 0.05}},
        "as successful as plain poisoning while the attack lasts, and forgotten later",
        rounds=10,
    ),
    "clean-label": Cell(
        {"attackers": 4, "poisoned_fraction": 1.0, "poisoning": {"kind": "clean-label", "epsilon": 0.12}},
        "ASR above 70 % with 1.5 % of the images",
        rounds=15,
        least=0.5,
    ),
    "warp": Cell(
        {"attackers": 4, "poisoned_fraction": 1.0, "trigger": {"kind": "warp", "strength": 1.5}},
        "ASR 99 %",
        rounds=15,
    ),
    "generated": Cell(
        {"attackers": 4, "poisoned_fraction": 1.0, "trigger": {"kind": "generated", "strength": 0.2}},
        "ASR 99 %",
        rounds=15,
    ),
    "edge-case": Cell(
        {"trigger": {"kind": "edge-case", "source": "mnist", "classes": [7]}, "poisoned_fraction": 0.3},
        "accuracy on edge cases 60 to 100 %",
        least=0.6,
    ),
    "semantic": Cell(
        {
            "trigger": {
                "kind": "semantic",
                "source": "fashion-mnist-sample",
                "source_class": 9,
                "feature": "dark",
                "fraction": 0.05,
            },
            "goal": {"kind": "one-to-one", "source": 9, "target": 2},
            "poisoned_fraction": 1.0,
            "keep_predictions": True,
            "update": [{"kind": "amplify", "factor": 5.0}],
        },
        "semantic backdoor accuracy above 80 % within a round",
        least=0.6,
    ),
    "slow": Cell(
        {"method": {"kind": "slow", "cosine": 0.9}, "poisoned_fraction": 1.0, "attackers": 3},
        "ours: no update is longer than an honest one, nor turned by more than 26 degrees",
        aggregation={"kind": "norm-clipping"},
        rounds=20,
        least=0.5,
    ),
}
