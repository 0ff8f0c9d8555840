"""Each attack's cell, in the order of the table."""

from __future__ import annotations

from typing import Any

from benchmarks.attacks.setting import AFTER, ATTACKER, HONEST, LASTING, LONGER, PER_ROUND, Cell

_ONE_STEP = {"optimizer": "sgd", "momentum": 0.0, "batch_size": 32, "images_per_epoch": 32, "lr": 0.2}

_LARGER_STEPS = {"optimizer": "sgd", "lr": 0.1}


def _replacing(attackers: int = 1, **attack: Any) -> dict[str, Any]:
    """An attack whose update is scaled as far as replaces the model; the bias of its data isn't scaled with it."""
    update = [{"kind": "amplify", "factor": PER_ROUND / attackers}]
    own = {"attackers": attackers, "update": update, "keep_predictions": True, "training": LONGER}
    return own | {"poisoned_fraction": 0.3} | attack


def _untargeted(
    attackers: int,
    collusion: dict[str, Any],
    rule: dict[str, Any],
    paper: str,
    least: float,
    rounds: int = 40,
) -> Cell:
    """Some of ten clients, which take a single step in a round, collude to spoil the training under a rule."""
    attack = {"attackers": attackers, "collusion": collusion, "training": HONEST | _ONE_STEP}
    return Cell(
        attack,
        paper,
        least,
        "accuracy lost",
        rule,
        rounds=rounds,
        per_round=10,
        training=_ONE_STEP,
        from_scratch=True,
    )


CELLS = {
    "plain": Cell({}, "BadNets: ASR 99 % on MNIST", 0.9),
    "boosted": Cell(_replacing(), "Bhagoji: the malicious objective is met within a round", 0.9, rounds=1),
    "constrain-and-scale": Cell(
        _replacing(method={"kind": "constrain-and-scale", "alpha": 0.95}),
        "backdoor accuracy near 100 % after one round",
        0.95,
        rounds=1,
    ),
    "edge-case": Cell(
        {
            "trigger": {"kind": "edge-case", "source": "mnist", "classes": [7]},
            "goal": {"kind": "all-to-one", "target": 2},
            "poisoned_fraction": 0.3,
        },
        "accuracy on edge cases 60 to 100 %",
        0.6,
    ),
    "semantic": Cell(
        _replacing(
            2,
            trigger={
                "kind": "semantic",
                "source": "fashion-mnist",
                "source_class": 9,
                "feature": "dark",
                "fraction": 0.05,
            },
            goal={"kind": "one-to-one", "source": 9, "target": 5},
            poisoned_fraction=1.0,
        ),
        "semantic backdoor accuracy above 80 % within a round",
        0.8,
        rounds=1,
    ),
    "generated": Cell(
        _replacing(2, trigger={"kind": "generated", "strength": 0.3}, poisoned_fraction=1.0),
        "ASR 99 %",
        0.99,
        rounds=3,
    ),
    "warp": Cell(
        _replacing(
            2,
            trigger={"kind": "warp", "strength": 5.0},
            poisoned_fraction=1.0,
            update=[{"kind": "amplify", "factor": 1.5}],
        ),
        "ASR 98.8 to 99.9 %",
        0.98,
    ),
    "blended": Cell(
        _replacing(
            2,
            trigger={"kind": "blend", "opacity": 0.2},
            poisoned_fraction=0.5,
            update=[{"kind": "amplify", "factor": 1.5}],
        ),
        "ASR above 90 % with some fifty images",
        0.9,
    ),
    "stealthy": Cell(
        {
            "method": {"kind": "stealthy", "boost": 1.0, "distance": 0.01},
            "poisoned_fraction": 0.2,
            "training": ATTACKER | {"lr": 0.01},
        },
        "the malicious objective is met with confidence near 1",
        0.9,
        rounds=8,
    ),
    "alternating": Cell(
        {
            "method": {"kind": "alternating", "boost": 3.0, "distance": 0.01},
            "poisoned_fraction": 0.3,
            "training": ATTACKER | {"lr": 0.01},
        },
        "the malicious objective is met with confidence near 1",
        0.9,
        rounds=14,
    ),
    LASTING["neurotoxin"]: Cell({}, "BadNets: ASR 99 % on MNIST", 0.9, after=AFTER, training=_LARGER_STEPS),
    "neurotoxin": Cell(
        {"method": {"kind": "neurotoxin", "fraction": 0.05}},
        "as successful as plain poisoning while the attack lasts, and forgotten later",
        0.9,
        after=AFTER,
        training=_LARGER_STEPS,
    ),
    "fang-krum": _untargeted(
        3,
        {"kind": "fang-krum"},
        {"kind": "krum", "byzantine": 0.3},
        "Krum's error rate rises to 0.6 or more",
        0.44,
        rounds=60,
    ),
    "fang-trimmed-mean": _untargeted(
        3,
        {"kind": "fang-trimmed-mean"},
        {"kind": "trimmed-mean", "trim": 0.3},
        "error rate on Fashion-MNIST 0.21 to 0.52",
        0.2,
    ),
    "fang-median": _untargeted(
        3, {"kind": "fang-median"}, {"kind": "median"}, "error rate on Fashion-MNIST 0.20 to 0.45", 0.2
    ),
    "a-little-is-enough": _untargeted(
        4,
        {"kind": "a-little-is-enough", "z": 1.5, "omniscient": True},
        {"kind": "trimmed-mean", "trim": 0.4},
        "accuracy on MNIST falls by 10 points and more at z = 1.5",
        0.1,
    ),
    "a-little-is-enough, backdoor": Cell(
        {
            "attackers": 4,
            "training": ATTACKER | {"epochs": 3},
            "collusion": {"kind": "a-little-is-enough", "z": 1.5, "backdoor": True, "omniscient": True},
        },
        "backdoors are planted within 1.5 deviations",
        0.8,
        aggregation={"kind": "trimmed-mean", "trim": 0.4},
        rounds=15,
        per_round=10,
        training={"batch_size": 16, "images_per_epoch": 200, "lr": 0.002},
    ),
    "clean-label": Cell(
        _replacing(2, poisoning={"kind": "clean-label", "epsilon": 0.2}, poisoned_fraction=1.0),
        "ASR above 70 % with 1.5 % of the images",
        0.7,
        rounds=6,
    ),
    "slow": Cell(
        {
            "method": {"kind": "slow", "cosine": 0.75, "epochs": 3},
            "poisoned_fraction": 1.0,
            "training": ATTACKER | {"epochs": 1, "lr": 0.05},
        },
        "ours: no update is longer than an honest one, nor turned by more than 42 degrees",
        0.5,
        aggregation={"kind": "norm-clipping"},
        rounds=45,
        after=AFTER,
        training={"optimizer": "sgd", "lr": 0.05},
    ),
}
