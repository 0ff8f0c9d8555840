from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedmend.errors import ConfigError, DataError
from fedmend.evaluation import accuracy
from fedmend.parameters import flatten
from fedmend.pruning import MajorityVote, RankingVote, bits, ranks
from fedmend.repairs import Pruning, ValidationSet, prune
from fedmend.repairs.pruning_stages import PAPER_PRUNING
from fedmend.repairs.repair_report import PruningDetails
from fedmend.seeds import generator

IMAGES = torch.rand(60, 1, 8, 8, generator=generator(1))
LAYER = "0"


def model(channels: int = 6) -> Any:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, channels, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(channels * 9, 3)
    ).eval()


def dead_channels(*channels: int) -> Any:
    """A model to which these channels mean nothing."""
    net = model()
    with torch.no_grad():
        for channel in channels:
            net[4].weight[:, channel * 9 : (channel + 1) * 9] = 0
    return net


def own_labels(net: nn.Module) -> Tensor:
    with torch.no_grad():
        return net(IMAGES).argmax(1)


def vote(order: list[int]) -> RankingVote:
    """Of one client, for this pruning sequence."""
    made = RankingVote(len(order), 1)
    made.add(0, torch.tensor(order).argsort())
    return made


def pruned(
    net: nn.Module, votes: RankingVote | MajorityVote, how: Pruning | None = None
) -> tuple[Any, PruningDetails]:
    model, mask, details = prune(net, votes, ValidationSet(IMAGES, own_labels(net)), how or Pruning())
    for name, zero in mask.items():
        assert not bool(model.get_parameter(name)[zero].any())
    return model, details


class Told:
    """Accuracies that somebody else reports."""

    def __init__(self, *accuracies: float, later: float | None = None) -> None:
        self.probe, self.warnings = torch.zeros(1, 1, 8, 8), list[str]()
        self.told, self.later = torch.tensor(accuracies, dtype=torch.float64), later
        self.asked: list[tuple[str, int]] = []

    def along(self, _model: nn.Module, layer: str, _sequence: Sequence[int], points: Sequence[int]) -> Tensor:
        self.asked.append((layer, len(points)))
        if len(points) == 1 and self.later is not None:
            return torch.tensor([self.later], dtype=torch.float64)
        return self.told[: len(points)]


def test_what_means_nothing_is_pruned_and_the_rest_stays() -> None:
    net = dead_channels(4, 1)
    before = flatten(net.state_dict())
    labels = own_labels(net)
    model, details = pruned(net, vote([4, 1, 0, 2, 3, 5]), Pruning(max_drop=0, delta=100.0))
    assert details.pruned[:2] == (4, 1)
    assert details.accuracies[:3] == (1, 1, 1)
    assert details.layer == LAYER
    assert torch.equal(flatten(net.state_dict()), before)
    weight = model.get_parameter("0.weight")
    assert bool((weight[list(details.pruned)] == 0).all())
    kept = [channel for channel in range(6) if channel not in details.pruned]
    assert torch.equal(weight[kept], net.get_parameter("0.weight")[kept])
    assert [stage.name for stage in details.stages] == ["suspect", "pruned", "adjusted"]
    assert details.stages[1].zeroed == 9 * len(details.pruned)
    assert details.stages[-1].accuracy == accuracy(model, IMAGES, labels)


def test_extreme_weights_are_zeroed_and_named() -> None:
    net = model()
    with torch.no_grad():
        net[0].weight[2, 0, 1, 1] = 9.0
    adjusted, details = pruned(net, vote([0, 1, 3, 4, 5, 2]), Pruning(max_drop=0, delta=2.5))
    assert details.extreme[0] == (2, 0, 1, 1)
    assert details.values[0] == 9
    assert details.stages[-1].zeroed == len(details.extreme) == 1
    assert adjusted[0].weight[2, 0, 1, 1].item() == 0


def test_weights_that_were_pruned_before_are_not_named_as_extreme() -> None:
    """The live ones are all about 5, so that zero lies far beyond three deviations."""
    net = model()
    with torch.no_grad():
        net[0].weight.copy_(5 + torch.arange(54).view(6, 1, 3, 3) % 2 / 10)
        net[0].weight[2, 0, 1, 1] = 9.0
    _, _, details = prune(net, vote([0, 1, 3, 4, 5, 2]), Told(0.9, 0.9, 0.5, 0.5, 0.5, 0.5))
    assert details.pruned == (0,)
    assert details.extreme == ((2, 0, 1, 1),)
    assert details.stages[-1].zeroed == 1


def test_without_images_somebody_else_measures() -> None:
    accuracies = Told(0.9, 0.9, 0.895, 0.7, 0.6, 0.5)
    _, _, details = prune(model(), vote([5, 4, 3, 2, 1, 0]), accuracies)
    assert details.pruned == (5, 4)
    assert accuracies.asked[0] == (LAYER, 6)
    assert {points for _, points in accuracies.asked[1:]} == {1}


def test_the_paper_stops_at_a_step_and_ours_at_the_sum_of_steps() -> None:
    falls = Told(0.9, 0.893, 0.886, 0.879, 0.5, 0.4)
    counts = {
        stop: len(prune(model(), vote(list(range(6))), falls, Pruning(stop=stop))[2].pruned)
        for stop in ("step", "total")
    }
    assert counts == {"step": 3, "total": 1}


def test_a_majority_vote_counts_as_well() -> None:
    net = dead_channels(3)
    votes = MajorityVote(6, 3)
    for client in range(3):
        votes.add(client, bits(torch.tensor([5.0, 4, 3, 0, 2, 1]), [1 / 6]))
    _, details = pruned(net, votes)
    assert details.vote == "majority"
    assert details.sequence[0] == 3


def test_of_several_rates_the_one_is_taken_at_which_most_can_be_pruned() -> None:
    net = dead_channels(1, 2, 3)
    misled, useful = torch.tensor([5.0, 4, 3, 0, 1, 2]), torch.tensor([5.0, 0, 1, 2, 4, 3])
    for order in ([misled, useful], [useful, misled]):
        votes = MajorityVote(6, 1, rates=2)
        votes.add(0, torch.cat([bits(activations, [0.5]) for activations in order]))
        assert set(pruned(net, votes)[1].pruned) >= {1, 2, 3}


def test_delta_can_be_chosen_by_accuracy() -> None:
    _, details = pruned(model(), vote(list(range(6))), Pruning(delta="validated"))
    before, after = details.stages[1:]
    assert after.delta is not None
    assert before.accuracy - after.accuracy <= 0.01 + 1e-9


def test_without_a_delta_weights_are_left_as_they_are() -> None:
    net = model()
    left, details = pruned(net, vote(list(range(6))), Pruning(delta=None))
    assert [stage.name for stage in details.stages] == ["suspect", "pruned"]
    kept = [channel for channel in range(6) if channel not in details.pruned]
    assert torch.equal(left[0].weight[kept], net[0].weight[kept])


def test_who_voted_is_reported() -> None:
    votes = RankingVote(6, 5)
    votes.add(0, ranks(torch.arange(6.0)))
    votes.add(1, torch.zeros(6, dtype=torch.int64))
    votes.admit(2, "no reply in time")
    _, details = pruned(model(), votes)
    assert (details.ballots, details.missing) == (1, 2)
    assert details.refused == {"repeated and missing ranks": 1, "no reply in time": 1}


def test_what_it_cannot_use() -> None:
    net = model()
    labels = own_labels(net)
    with pytest.raises(ConfigError, match=r"the vote has 3 channels, but 0 has 6"):
        pruned(net, vote([0, 1, 2]))
    with pytest.raises(DataError, match="there is no valid ballot"):
        pruned(net, RankingVote(6, 2))
    for images, truth in ((IMAGES[:0], labels[:0]), (IMAGES[0], labels), (IMAGES, labels[:5])):
        with pytest.raises(DataError, match="validation images must be"):
            ValidationSet(images, truth)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"max_drop": 2.0}, {"delta": 0.0}, {"delta": float("nan")}, {"rule": "mode"}, {"stop": "never"}),
        *({"live_only": 1}, {"dleta": 3.0}),
    ],
    ids=str,
)
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Pruning: "):
        Pruning(**wrong)


def test_the_papers_rules_of_a_vote_differ_under_attack() -> None:
    """Three of ten rank channel 0, which the others find dormant, as the most active."""
    votes = RankingVote(6, 10)
    for client in range(10):
        honest = torch.tensor([0, 1, 2, 3, 4, 5])
        votes.add(client, honest if client >= 3 else torch.tensor([5, 4, 3, 2, 1, 0]))
    assert votes.scores("median").tolist() == [0, 1, 2, 3, 4, 5]
    assert votes.scores("mean")[0] == 1.5


def test_the_papers_own_choices_by_hand() -> None:
    """Mean ranks; a drop between testing points; weights beyond three deviations, over all weights of the layer.

    Half of the 54 weights are of pruned channels. The others are 1 and -1 but for 2.9 and 2.0, so that the deviation is
    0.8 over all and 1.2 over the live ones: three of these are 2.5 and 3.5.
    """
    net = model()
    signs = (torch.arange(54) % 2 * 2.0 - 1).view(6, 1, 3, 3)
    signs[3, 0, 0, 0], signs[4, 0, 1, 1] = 2.9, 2.0
    net[0].weight.data.copy_(signs)
    votes = RankingVote(6, 3)
    for ranking in ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], [5, 0, 1, 2, 3, 4]):
        assert votes.add(votes.counted, torch.tensor(ranking)) is None
    assert votes.scores("mean").tolist() != votes.scores("median").tolist()
    _, _, details = prune(net, votes, Told(0.9, 0.895, 0.89, 0.885, 0.5, 0.4), PAPER_PRUNING)
    order = votes.scores("mean").argsort(stable=True).tolist()
    assert list(details.sequence) == order != votes.scores("median").argsort(stable=True).tolist()
    assert details.pruned == tuple(order[:3])
    left = signs.clone()
    left[order[:3]] = 0
    beyond = (left - left.mean()).abs() > 3 * left.std(correction=0)
    assert [list(place) for place in details.extreme] == beyond.nonzero().tolist() == [[3, 0, 0, 0]]


def test_modes_and_gradients_stay_as_they_were() -> None:
    net = model().train()
    net[4].weight.requires_grad_(False)
    twin = deepcopy(net)
    left, _ = pruned(net, vote(list(range(6))))
    for one in (net, left):
        assert one.training
        assert not one[4].weight.requires_grad
    assert torch.equal(flatten(net.state_dict()), flatten(twin.state_dict()))
