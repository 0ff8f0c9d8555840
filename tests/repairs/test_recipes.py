"""Both recipes as a whole, among clients whose replies are given: what reaches the rounds, and what comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedmend.aggregation import FedAvg
from fedmend.detection import FoundTrigger
from fedmend.federation import ClientUpdate, RoundPlan, Server
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten
from fedmend.repairs import PAPER_RECIPE, Candidate, Context, FederatedPruning, Participants
from fedmend.repairs.pruning_stages import PAPER_PRUNING
from fedmend.repairs.repair_report import TargetCheck
from fedmend.seeds import generator
from fedmend.triggers import Patch

SHAPE = (1, 8, 8)
IMAGES = torch.rand(60, *SHAPE, generator=generator(1))
TRAINING = LocalTraining(1, 8, "sgd", 0.05)
DORMANT = (4, 1)
RANKINGS = ((4, 1, 0, 2, 3, 5), (4, 1, 0, 2, 3, 5), (1, 4, 0, 2, 3, 5))


def white_corner() -> Patch:
    mask = torch.zeros(1, 8, 8)
    mask[0, 0, 0] = 1
    return Patch(mask, mask.clone())


def suspect() -> nn.Sequential:
    """Two of its channels mean nothing to it; one weight of another is extreme."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 9, 3))
    with torch.no_grad():
        for channel in DORMANT:
            net[4].weight[:, channel * 9 : (channel + 1) * 9] = 0
        net[0].weight[2, 0, 1, 1] = 9.0
        net[4].bias -= net(IMAGES).mean(0)
    return net.eval()


@dataclass
class Replies:
    """A client that finds channels active in this order, the most dormant first, and one trigger.

    It says that the suspect is right in 90 % and a later model in 80 %, and that the trigger works on a quarter.
    """

    client_id: int
    order: Sequence[int]
    found: Any = field(default_factory=lambda: [FoundTrigger(white_corner(), 0, 1, 1.0)])
    success: float = 0.25
    judged: list[Tensor] = field(default_factory=list)

    def activations(self, model: nn.Module, layer: str) -> Tensor:
        return torch.tensor(self.order).argsort().double()

    def triggers(self, model: nn.Module, seed: int) -> list[FoundTrigger]:
        return self.found

    def accuracies(
        self, model: nn.Module, layer: str, sequence: Sequence[int], points: Sequence[int]
    ) -> Tensor:
        return torch.full((len(points),), 0.9 if len(points) > 1 else 0.8, dtype=torch.float64)

    def successes(self, model: nn.Module, triggers: Sequence[FoundTrigger]) -> Tensor:
        self.judged.append(flatten(model.state_dict()))
        return torch.full((len(triggers),), self.success, dtype=torch.float64)


@dataclass
class Rounds:
    """Trains nobody: each client sends the same small change of everything. Keeps the plans, and the models before."""

    change: float = 1e-4
    plans: list[RoundPlan] = field(default_factory=list)
    models: list[Tensor] = field(default_factory=list)

    def __call__(self, model: nn.Module, clients: Sequence[Any], plan: RoundPlan) -> list[Any]:
        self.plans.append(plan)
        self.models.append(flatten(model.state_dict()))
        change = torch.full_like(self.models[-1], self.change)
        return [(ClientUpdate(client.client_id, 1, change), {}) for client in clients]


def federation(fit: Any = None, clients: Any = None) -> Participants:
    everyone: Any = clients or [Replies(*each) for each in enumerate(RANKINGS)]
    rounds = fit or Rounds()
    return Participants(
        SHAPE, everyone, lambda number: everyone, 3, TRAINING, Server(FedAvg()), seed=5, fit=rounds
    )


def classes(net: nn.Module, images: Tensor = IMAGES) -> Tensor:
    with torch.no_grad():
        predictions: Tensor = net(images).argmax(1)
    return predictions


def repaired(method: FederatedPruning) -> tuple[Candidate, Rounds]:
    """By a server whose images are labelled as the suspect classifies them."""
    net, fit = suspect(), Rounds()
    return method(net, (), Context(images=IMAGES, labels=classes(net), participants=federation(fit))), fit


def test_the_papers_recipe_makes_the_papers_choices() -> None:
    assert PAPER_RECIPE.pruning == PAPER_PRUNING
    assert (PAPER_RECIPE.vote, PAPER_RECIPE.distillation) == ("ranking", None)
    assert (PAPER_PRUNING.rule, PAPER_PRUNING.stop, PAPER_PRUNING.max_drop) == ("mean", "step", 0.01)
    assert (PAPER_PRUNING.delta, PAPER_PRUNING.live_only) == (3.0, False)


def test_the_papers_recipe_trains_the_pruned_model_on_labels_and_then_adjusts() -> None:
    candidate, fit = repaired(replace(PAPER_RECIPE, fine_tuning_rounds=2))
    details: Any = candidate.details
    assert [each.name for each in details.stages] == ["suspect", "pruned", "fine-tuned", "adjusted again"]
    assert set(details.pruned) >= set(DORMANT)
    assert [(plan.number, plan.task) for plan in fit.plans] == [(4, TRAINING), (5, TRAINING)]
    pruned, tuned = (candidate.stages[name].get_parameter("0.weight") for name in ("pruned", "fine-tuned"))
    live = [channel for channel in range(6) if channel not in details.pruned]
    assert torch.allclose(tuned[live], pruned[live] + 2e-4)
    assert not tuned[list(details.pruned)].any()
    assert details.extreme == ((2, 0, 1, 1),)
    assert not candidate.model.get_parameter("0.weight")[2, 0, 1, 1].any()


def test_fedmends_recipe_distils_the_suspect_against_the_clients_triggers() -> None:
    """Not the pruned model, which is what is trained; what was pruned stays zero."""
    candidate, fit = repaired(FederatedPruning(fine_tuning_rounds=2))
    whole = flatten(suspect().state_dict())
    assert [plan.number for plan in fit.plans] == [4, 5]
    assert torch.equal(fit.models[0], flatten(candidate.stages["pruned"].state_dict()))
    assert not torch.equal(fit.models[0], whole)
    details: Any = candidate.details
    for plan in fit.plans:
        task: Any = plan.task
        assert torch.equal(flatten(task.teacher.state_dict()), whole)
        assert torch.equal(task.added, white_corner().mask.expand(3, *SHAPE))
        assert bool(plan.mask["0.weight"][list(details.pruned)].all())
    assert [(target.sources, target.target) for target in candidate.targets] == [((0,), 1)] * 3


@pytest.mark.parametrize("method", [PAPER_RECIPE, FederatedPruning()], ids=["paper", "fedmend"])
def test_clients_have_as_long_for_a_round_as_for_a_reply(method: FederatedPruning) -> None:
    _, fit = repaired(replace(method, fine_tuning_rounds=1, timeout=7.0))
    assert [plan.timeout for plan in fit.plans] == [7.0]


@pytest.mark.parametrize("method", [PAPER_RECIPE, FederatedPruning()], ids=["paper", "fedmend"])
def test_before_and_after_are_the_suspects_and_the_last_models_accuracies(method: FederatedPruning) -> None:
    """In this order, which the report of a server without images relies on."""
    candidate, _ = repaired(replace(method, fine_tuning_rounds=1))
    details: Any = candidate.details
    assert details.stages[0].accuracy == 1.0
    assert candidate.reported == (1.0, details.stages[-1].accuracy)


def test_without_images_the_clients_judge_the_repaired_model() -> None:
    clients = [Replies(*each) for each in enumerate(RANKINGS)]
    method = FederatedPruning(fine_tuning_rounds=1)
    candidate = method(suspect(), (), Context(participants=federation(clients=clients)))
    details: Any = candidate.details
    assert details.num_validation == 0
    assert candidate.reported == pytest.approx((0.9, 0.8))
    assert candidate.reported_checks == (TargetCheck(1, (0,), 1.0, 0.25, triggers=3),)
    assert not torch.equal(flatten(candidate.model.state_dict()), flatten(suspect().state_dict()))
    for client in clients:
        (judged,) = client.judged
        assert torch.equal(judged, flatten(candidate.model.state_dict()))


def test_without_images_the_clients_try_their_triggers_in_the_reference_as_well() -> None:
    clients = [Replies(*each) for each in enumerate(RANKINGS)]
    reference = suspect()
    torch.nn.init.zeros_(reference[4].bias)
    context = Context(reference, participants=federation(clients=clients))
    candidate = FederatedPruning(fine_tuning_rounds=1)(suspect(), (), context)
    assert candidate.reported_checks == (TargetCheck(1, (0,), 1.0, 0.25, 3, 0.25),)
    for client in clients:
        assert torch.equal(client.judged[1], flatten(reference.state_dict()))


def test_refused_triggers_and_refused_reports_of_success_are_told() -> None:
    clients = [Replies(*each) for each in enumerate(RANKINGS)]
    clients[0].found, clients[2].success = [None], 1.5
    method = FederatedPruning(fine_tuning_rounds=1)
    candidate = method(suspect(), (), Context(participants=federation(clients=clients)))
    assert candidate.warnings == (
        "of 3 clients' triggers, refused: 1 for something other than triggers",
        "of 3 reports of the triggers' success, refused: 1 for success rates below 0 or above 1",
    )


def test_a_server_with_images_measures_what_clients_claim() -> None:
    candidate, _ = repaired(FederatedPruning(fine_tuning_rounds=1))
    net = suspect()
    own = IMAGES[classes(net) == 0]
    assert len(own) > 0
    measured = float((classes(net, white_corner().apply(own)) == 1).double().mean())
    details: Any = candidate.details
    assert details.num_validation == len(IMAGES)
    assert [each.rate for each in details.triggers] == pytest.approx([measured] * 3)
    assert measured < 1


@pytest.mark.parametrize(("count", "warned"), [(199, True), (200, False)])
def test_two_errors_must_not_exceed_what_pruning_may_cost(count: int, warned: bool) -> None:
    """With 200 images, two errors are exactly the one point."""
    net, images = suspect(), torch.rand(count, *SHAPE, generator=generator(2))
    context = Context(images=images, labels=classes(net, images), participants=federation())
    candidate = FederatedPruning(fine_tuning_rounds=0)(net, (), context)
    said = [each for each in candidate.warnings if "two errors exceed the 1 points" in each]
    assert bool(said) == warned


def test_a_suspect_no_better_than_the_most_frequent_class_is_doubted() -> None:
    """One that always predicts this class is as good."""
    net, labels = suspect(), torch.tensor([0] * 40 + [1] * 20)
    with torch.no_grad():
        net[4].weight.zero_()
        net[4].bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    context = Context(images=IMAGES, labels=labels, participants=federation())
    candidate = FederatedPruning(fine_tuning_rounds=0)(net, (), context)
    said = "classifies 66.7% of the validation images correctly, no more than always predicting the most frequent"
    assert any(said in each for each in candidate.warnings)
