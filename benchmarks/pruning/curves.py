"""What the paper's figures and its Table 3 show, measured on models that train.py left; results/curves.json.

    python benchmarks/pruning/curves.py

Nothing is trained or fine-tuned here. What has no model yet is left out, what has a result is passed over.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Sequence
from typing import Any

import torch
from evaluate import COMMIT, RESULTS, is_trained, test_images
from torch import Tensor, nn
from train import BRANCHES, RUNS

from fedmend import load_images
from fedmend.data import ImageSet
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.federation import RunFolder, load_attacks, load_federation
from fedmend.files import write_text
from fedmend.pixels import to_float
from fedmend.pruning import (
    MajorityVote,
    RankingVote,
    accuracies_along,
    adjusted,
    bits,
    channel_mask,
    how_far,
    locate,
    points_along,
    pruning_sequence,
    ranks,
    set_to_zero,
)
from fedmend.repairs import round_model
from models import SEED, Job

DELTAS = (0.0, *(0.5 * step for step in range(10, 0, -1)))
LYING_CLIENTS = (0, 3)
RATE = 0.5
PATH = RESULTS / "curves.json"


class Attacked:
    """A trained model with its clients and images, and what is measured on it."""

    def __init__(self, job: Job) -> None:
        run = RunFolder(RUNS / job.name)
        self.run, self.config = run, run.config()
        self.train: ImageSet = load_images(self.config.data.source, "train")
        self.validation, self.others = test_images(self.config.data.source)
        self.model = round_model(run, self.train)
        (self.attack,) = load_attacks(run, self.train)
        self.layer = locate(self.model, self.train.images[:1])
        self.width = self.layer.convolution.out_channels

    def figures(self, model: nn.Module) -> dict[str, float]:
        images, labels = self.others.images, self.others.labels
        asr = attack_success_rate(model, self.attack.trigger, self.attack.goal, images, labels)
        return {"accuracy": accuracy(model, images, labels), "asr": asr}

    def activations(self, lying_clients: int) -> list[Tensor]:
        asked = load_federation(self.run, self.train, lying_clients=lying_clients).clients
        return [client.activations(self.model, self.layer.name) for client in asked]

    def along(self, sequence: Sequence[int]) -> dict[str, Any]:
        """Accuracy and ASR along a pruning sequence, and where 1,000 validation images say to stop."""
        points = points_along(self.width)
        chosen = self.attack.attacked(self.others.labels)
        sources, targets = self.others.images[chosen], self.attack.goal.targets(self.others.labels)[chosen]

        def measured(images: Tensor, labels: Tensor) -> Tensor:
            return accuracies_along(self.model, sequence, points, images, labels, self.layer.name)

        known = measured(self.validation.images, self.validation.labels)
        return {
            "points": points,
            "accuracy": measured(self.others.images, self.others.labels).tolist(),
            "asr": measured(self.attack.trigger.apply(to_float(sources)), targets).tolist(),
            "stop": {rule: points[how_far(known, rule=rule)] for rule in ("step", "total")},
        }


def sequences(activations: Sequence[Tensor], width: int) -> dict[str, list[int]]:
    """The pruning sequence by each rule from what clients say of their channels."""
    ranking, majority = RankingVote(width, len(activations)), MajorityVote(width, len(activations), 1)
    for client, said in enumerate(activations):
        ranking.add(client, ranks(said))
        majority.add(client, bits(said, (RATE,)))
    found = {
        f"ranking, {rule}": ranking.scores(rule)  # type: ignore[arg-type]
        for rule in ("mean", "median", "trimmed")
    }
    return {
        name: pruning_sequence(scores).tolist()
        for name, scores in (found | {"majority": majority.scores(0)}).items()
    }


def along_sequences(job: Job) -> dict[str, Any]:
    """Figure 4, and the rules against lying clients."""
    attacked = Attacked(job)
    return {
        f"{name}, {lying} liars": attacked.along(sequence)
        for lying in LYING_CLIENTS
        for name, sequence in sequences(attacked.activations(lying), attacked.width).items()
    }


def by_delta(job: Job) -> list[dict[str, float]]:
    """Figure 5: the model as pruned by mean ranks, then with extreme weights at zero; delta 0 changes nothing."""
    attacked = Attacked(job)
    sequence = sequences(attacked.activations(0), attacked.width)["ranking, mean"]
    count = attacked.along(sequence)["stop"]["step"]
    set_to_zero(attacked.model, channel_mask(attacked.layer, sequence[:count]))
    return [{"delta": delta} | _at_delta(attacked, delta) for delta in DELTAS]


def extreme_weights_alone(job: Job) -> dict[str, float]:
    """A row of Table 3: delta 3, nothing pruned."""
    attacked = Attacked(job)
    goal = attacked.attack.config.goal
    pair = {"victim": goal["source"], "target": goal["target"]}
    before = {f"{key} before": value for key, value in attacked.figures(attacked.model).items()}
    return pair | before | _at_delta(attacked, 3.0)


def _at_delta(attacked: Attacked, delta: float) -> dict[str, float]:
    weight = attacked.layer.convolution.weight
    if not delta:
        return {"zeroed": 0} | attacked.figures(attacked.model)
    model, mask = adjusted(attacked.model, attacked.layer.name, delta)
    zeroed = int((mask[f"{attacked.layer.name}.weight"] & (weight != 0)).sum())
    return {"zeroed": zeroed} | attacked.figures(model)


def by_round(job: Job) -> dict[str, list[float]]:
    """Figures 3 and 6: accuracy and ASR on the test split after each round."""
    run = RunFolder(RUNS / job.name)
    records, hidden = run.records(), run.attacker.records()
    return {
        "round": [record.round for record in records],
        "accuracy": [record.accuracy for record in records],
        "asr": [record.asr[0] for record in hidden],
    }


def plan() -> dict[str, tuple[Callable[[Job], Any], list[Job]]]:
    """What is measured, and on which models."""
    pair = [
        job for part in ("mnist", "fashion") for job in BRANCHES[part] if job.name.endswith(f"-{SEED}-3/9-1")
    ]
    return {
        "along": (along_sequences, pair),
        "delta": (by_delta, pair),
        "small": (extreme_weights_alone, BRANCHES["small"]),
        "labels": (by_round, BRANCHES["labels"]),
        "penalties": (by_round, BRANCHES["penalties"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    torch.set_num_threads(1)
    file = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}
    for name, (measure, jobs) in plan().items():
        for job in jobs:
            if job.name in file.get(name, {}) or not is_trained(job):
                continue
            file.setdefault(name, {})[job.name] = {"commit": COMMIT, "measured": measure(job)}
            file |= {"machine": f"{platform.machine()}, one core", "torch": torch.__version__}
            write_text(PATH, json.dumps(file, indent=1) + "\n")
            print(name, job.name, flush=True)


if __name__ == "__main__":
    main()
