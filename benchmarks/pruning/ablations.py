"""fedmend's repair without one of its parts: what is each worth? results/ablations.json grows as they come.

    python benchmarks/pruning/ablations.py batch-norm-small --most 1

Run train.py first. The repair is the product's, with one piece of it replaced. All variants on one model share the
triggers that the clients found. The clients lie, where they do, in everything: ballots, accuracies, triggers and
distillation updates (three of ten, the attacker among them).
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
from evaluate import COMMIT, LYING_CLIENTS, RESULTS, is_trained, test_images
from torch import nn
from train import BRANCHES, RUNS, arguments

from fedmend import accuracy, attack_success_rate, load_images
from fedmend.aggregation import uniform_mean
from fedmend.detection import Case
from fedmend.federation import RunFolder, load_attacks, load_federation
from fedmend.files import write_text
from fedmend.repairs import (
    FederatedPruning,
    ValidationSet,
    federated_pruning,
    fine_tuning,
    group_selection,
    participants_of,
    repair_by_votes,
    round_model,
    trigger_pool,
)
from models import Job

PATH = RESULTS / "ablations.json"
Pool = trigger_pool.TriggerPool


@dataclass(frozen=True)
class Variant:
    """A repair to measure.

    Attributes:
        images: whether the server has validation images.
        lying_clients: how many clients lie.
        replaced: replaces a piece of the repair.
    """

    images: bool = True
    lying_clients: int = 0
    replaced: Callable[[ExitStack], None] = lambda stack: None


def without_pruning(stack: ExitStack) -> None:
    """The vote is held, but no channel is pruned."""
    tally = federated_pruning.tally

    def nothing(*given: Any) -> Any:
        return replace(tally(*given), count=0)

    stack.enter_context(patch.object(federated_pruning, "tally", nothing))


def without_triggers(stack: ExitStack) -> None:
    """The clients report no trigger: copies carry noise, and groups are chosen by their clean accuracy."""
    ask = federated_pruning.ask_for_triggers

    def none(*given: Any) -> Any:
        pool = ask(*given)
        pool.found = []
        return pool

    stack.enter_context(patch.object(federated_pruning, "ask_for_triggers", none))


def without_distillation(stack: ExitStack) -> None:
    """Honest clients train on their labels; groups and the round are chosen as always."""
    stack.enter_context(patch.object(Pool, "task", lambda _pool, _teacher, training, *_: training))


def without_groups(stack: ExitStack) -> None:
    """The mean of all updates in every round; the best round is still chosen."""
    apply_delta = group_selection.apply_delta

    def all_of_them(model: nn.Module, collected: Any, plan: Any, *_: Any) -> nn.Module:
        candidate = deepcopy(model)
        apply_delta(candidate, uniform_mean(collected.updates.deltas), collected, plan)
        return candidate

    stack.enter_context(patch.object(fine_tuning, "best_groups", all_of_them))


VARIANTS = {
    "whole": Variant(),
    "without vote and pruning": Variant(replaced=without_pruning),
    "without the clients' triggers": Variant(replaced=without_triggers),
    "without distillation": Variant(replaced=without_distillation),
    "without the choice of groups": Variant(replaced=without_groups),
    "without server images": Variant(images=False),
    "30 % lie in everything": Variant(lying_clients=LYING_CLIENTS),
    "30 % lie in everything, without server images": Variant(images=False, lying_clients=LYING_CLIENTS),
}


class Model:
    """A trained model, and the triggers that clients found in it."""

    def __init__(self, job: Job) -> None:
        self.run = RunFolder(RUNS / job.name)
        self.train = load_images(job.config.data.source, "train")
        self.validation, self.others = test_images(job.config.data.source)
        (self.attack,) = load_attacks(self.run, self.train)
        self.suspect = round_model(self.run, self.train)
        self._pools: dict[int, Any] = {}

    def figures(self, model: nn.Module) -> dict[str, float]:
        """Accuracy and attack success rate on images that no repair saw."""
        images, labels = self.others.images, self.others.labels
        asr = attack_success_rate(model, self.attack.trigger, self.attack.goal, images, labels)
        return {"accuracy": accuracy(model, images, labels), "asr": asr}

    @contextmanager
    def shared_triggers(self, lying_clients: int) -> Iterator[None]:
        """Ask the clients for triggers once, however often the repair does."""
        ask = federated_pruning.ask_for_triggers

        def once(*given: Any) -> Any:
            if lying_clients not in self._pools:
                self._pools[lying_clients] = ask(*given)
            return deepcopy(self._pools[lying_clients])

        with patch.object(federated_pruning, "ask_for_triggers", once):
            yield

    def repaired(self, variant: Variant) -> dict[str, Any]:
        """What a variant makes of the model."""
        federation = load_federation(self.run, self.train, lying_clients=variant.lying_clients)
        case, participants = Case(self.suspect), participants_of(self.run, federation)
        if variant.images:
            images, labels = self.validation.images, self.validation.labels
            case = Case(self.suspect, images=images, labels=labels)
            participants = replace(participants, validation=ValidationSet(images, labels))
        with self.shared_triggers(variant.lying_clients), ExitStack() as stack:
            variant.replaced(stack)
            _, report, stages = repair_by_votes(case, participants, FederatedPruning())
        worst = max((check.success_after for check in report.target_checks), default=None)
        return {
            "outcome": report.outcome,
            "found triggers' best success": worst,
            "before": self.figures(self.suspect),
            "pruned": self.figures(stages["pruned"]),
            "after": self.figures(list(stages.values())[-1]),
            "commit": COMMIT,
        }


def main() -> None:
    options = arguments(__doc__, most=True)
    file = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {"models": {}}
    torch.set_num_threads(1)
    for part in options.parts:
        for job in [job for job in BRANCHES[part] if is_trained(job)][: options.most]:
            results = file["models"].setdefault(job.name, {})
            missing = [name for name in VARIANTS if name not in results]
            model = Model(job) if missing else None
            for name in missing:
                assert model is not None
                results[name] = model.repaired(VARIANTS[name])
                file |= {
                    "machine": f"{platform.machine()}, one core",
                    "python": platform.python_version(),
                    "torch": torch.__version__,
                }
                write_text(PATH, json.dumps(file, indent=1) + "\n")
                print(job.name, name, results[name], flush=True)


if __name__ == "__main__":
    main()
