"""The rounds after pruning: what clients are asked to do, which round is kept, and what stays zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from cornered import CORNER, SHAPE, TARGET, images, net, state
from torch import Tensor, nn

from fedmend.aggregation import FedAvg
from fedmend.federation import Client, ClientUpdate, RoundPlan, Server, collect, next_model
from fedmend.federation.client_fit import fit_one_by_one
from fedmend.local_training import LocalTraining
from fedmend.repairs.base import Context, Participants
from fedmend.repairs.distillation import Distillation, DistillationTask
from fedmend.repairs.fine_tuning import Rounds, distillation_rounds, plain_rounds
from fedmend.repairs.pruning_stages import Work

TRAINING = LocalTraining(1, 8, "sgd", 0.05)
BACKDOOR = TARGET * 128
"""The place, in the flat vector, of the weight by which a white corner says the target."""


@dataclass
class Sent:
    """Fits nobody: every client of the n-th round sends the n-th change. Keeps the plans and models."""

    changes: Sequence[Tensor]
    plans: list[RoundPlan] = field(default_factory=list)
    models: list[Tensor] = field(default_factory=list)

    def __call__(self, model: nn.Module, clients: Sequence[Client], plan: RoundPlan) -> list[Any]:
        change = self.changes[len(self.plans)]
        self.plans.append(plan)
        self.models.append(state(model))
        return [(ClientUpdate(client.client_id, 1, change), {}) for client in clients]


def clients(count: int = 4) -> list[Client]:
    data = images(8 * count)
    return [Client(index, data.images[index::count], data.labels[index::count]) for index in range(count)]


def context(fit: Any, *, validated: bool = True) -> Context:
    own, everyone = images(), clients()
    participants = Participants(
        SHAPE, everyone, lambda number: everyone, 3, TRAINING, Server(FedAvg()), seed=5, fit=fit
    )
    if not validated:
        return Context(participants=participants)
    return Context(images=own.images, labels=own.labels, participants=participants)


def corner(*weights: float) -> list[Tensor]:
    """Changes of the backdoor's weight, one a round."""
    changes = []
    for weight in weights:
        change = torch.zeros(len(state(net())))
        change[BACKDOOR] = weight
        changes.append(change)
    return changes


def distilled(fit: Sent, *, validated: bool = True, work: Work | None = None) -> nn.Module:
    rounds = Rounds(len(fit.changes), 600.0)
    work = work or Work(net(corner=40.0))
    teacher = net(corner=40.0)
    return distillation_rounds(
        work, teacher, CORNER, context(fit, validated=validated), Distillation(), rounds
    )


def test_the_round_that_resists_best_is_kept_and_not_the_last() -> None:
    model = distilled(Sent(corner(-20.0, -20.0, 40.0)))
    assert float(state(model)[BACKDOOR]) == 0
    assert float(state(distilled(Sent(corner(-40.0, 40.0))))[BACKDOOR]) == 0


def test_the_pruned_model_is_kept_if_every_round_makes_it_worse() -> None:
    work = Work(net())
    assert distilled(Sent(corner(40.0)), work=work) is work.model


def test_without_validation_images_the_last_round_is_taken() -> None:
    model = distilled(Sent(corner(-40.0, 30.0)), validated=False)
    assert float(state(model)[BACKDOOR]) == 30


def test_the_suspect_teaches_in_every_round_against_the_clients_triggers() -> None:
    """Not the model that is being trained, which changes from round to round."""
    fit = Sent(corner(-20.0, -20.0))
    distilled(fit)
    suspect = state(net(corner=40.0))
    assert [float(each[BACKDOOR]) for each in fit.models] == [40, 20]
    for plan in fit.plans:
        assert isinstance(plan.task, DistillationTask)
        assert torch.equal(state(plan.task.teacher), suspect)
        ((_, trigger),) = CORNER.found
        assert torch.equal(plan.task.added, (vars(trigger.trigger)["mask"])[None])
        assert plan.task.weights.tolist() == pytest.approx([1.001])
    assert [plan.number for plan in fit.plans] == [4, 5]


def test_the_papers_fine_tuning_is_the_federations_next_rounds() -> None:
    """On labels, with FedAvg, from the pruned model, whose zeros stay."""
    mask = {"1.weight": torch.zeros(4, 128, dtype=torch.bool)}
    mask["1.weight"][:, 5:90] = True
    pruned = net()
    pruned[1].weight.data[mask["1.weight"]] = 0
    asked: list[RoundPlan] = []

    def fit(model: nn.Module, everyone: Sequence[Client], plan: RoundPlan) -> list[Any]:
        asked.append(plan)
        return list(fit_one_by_one(model, everyone, plan))

    plain = context(fit)
    assert plain.participants is not None
    model = plain_rounds(Work(pruned, mask), plain, Rounds(2, 600.0))
    by_hand: nn.Module = pruned
    server = plain.participants.server
    for number in (4, 5):
        plan = RoundPlan(number, 5, TRAINING, mask, 600.0)
        by_hand, server = next_model(by_hand, collect(by_hand, clients(), plan), plan, server)
    assert torch.equal(state(model), state(by_hand))
    assert not torch.equal(state(model), state(pruned))
    assert [(plan.number, plan.task) for plan in asked] == [(4, TRAINING), (5, TRAINING)]
    assert not model.get_parameter("1.weight")[mask["1.weight"]].any()


@pytest.mark.parametrize("distils", [True, False])
def test_a_clients_training_leaves_zeros_as_they_are(distils: bool) -> None:
    """What it sends for them is exactly zero: it trained the pruned model and no other."""
    mask = {"1.weight": torch.zeros(4, 128, dtype=torch.bool)}
    mask["1.weight"][:, 5:90] = True
    pruned = net()
    pruned[1].weight.data[mask["1.weight"]] = 0
    task: Any = TRAINING if not distils else CORNER.task(net(corner=40.0), TRAINING, Distillation(), 1)
    deltas = collect(pruned, clients(), RoundPlan(1, 5, task, mask, 600.0)).updates.deltas
    weights = deltas[:, : 4 * 128].view(-1, 4, 128)
    assert not weights[:, mask["1.weight"]].any()
    assert bool(weights[:, ~mask["1.weight"]].any())
