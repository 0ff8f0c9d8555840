from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from fedmend.repairs.vote_pruning import PruneReport, Pruning, prune
from torch import Tensor, nn

from fedmend.errors import ConfigError, DataError
from fedmend.evaluation import accuracy
from fedmend.parameters import flatten
from fedmend.pruning import MajorityVote, RankingVote, bits, ranks
from fedmend.seeds import generator

IMAGES = torch.rand(60, 1, 8, 8, generator=generator(1))
LAYER = "0"


def model(channels: int = 6) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, channels, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(channels * 9, 3)
    ).eval()


def dead_channels(*channels: int) -> nn.Module:
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


def test_what_means_nothing_is_pruned_and_the_rest_stays() -> None:
    net = dead_channels(4, 1)
    before = flatten(net.state_dict())
    labels = own_labels(net)
    pruned, report = prune(
        net, vote([4, 1, 0, 2, 3, 5]), images=IMAGES, labels=labels, settings=Pruning(max_drop=0, delta=100)
    )
    assert report.pruned[:2] == (4, 1)
    assert report.outcome == "pruned"
    assert report.accuracies[:3] == (1, 1, 1)
    assert report.layer == LAYER
    assert torch.equal(flatten(net.state_dict()), before)
    weight = pruned[0].weight
    assert bool((weight[list(report.pruned)] == 0).all())
    kept = [channel for channel in range(6) if channel not in report.pruned]
    assert torch.equal(weight[kept], net[0].weight[kept])
    assert [stage.name for stage in report.stages] == ["suspect", "pruned", "adjusted"]
    assert report.stages[1].zeroed == 9 * len(report.pruned)
    assert report.stages[-1].accuracy == accuracy(pruned, IMAGES, labels)


def test_extreme_weights_are_zeroed_and_named() -> None:
    net = model()
    with torch.no_grad():
        net[0].weight[2, 0, 1, 1] = 9.0
    pruned, report = prune(
        net,
        vote([0, 1, 3, 4, 5, 2]),
        images=IMAGES,
        labels=own_labels(net),
        settings=Pruning(max_drop=0, delta=2.5),
    )
    assert report.extreme[0] == (2, 0, 1, 1)
    assert report.values[0] == 9
    assert report.stages[-1].zeroed == len(report.extreme) == 1
    assert pruned[0].weight[2, 0, 1, 1].item() == 0


def test_fine_tuning_is_between_pruning_and_adjusting() -> None:
    net, seen = model(), []

    def fine_tune(tuned: nn.Module, zeros: dict[str, Tensor]) -> None:
        assert bool((tuned[0].weight[zeros["0.weight"]] == 0).all())
        seen.append(flatten(tuned.state_dict()))
        with torch.no_grad():
            tuned[4].bias += 1

    stages: list[str] = []
    _, report = prune(
        net,
        vote(list(range(6))),
        images=IMAGES,
        labels=own_labels(net),
        fine_tune=fine_tune,
        watch=lambda stage, _model: stages.append(stage),
    )
    assert len(seen) == 1
    assert stages == ["suspect", "pruned", "fine-tuned", "adjusted again"]
    assert stages == [stage.name for stage in report.stages]
    adjusted_first = prune(
        net,
        vote(list(range(6))),
        images=IMAGES,
        labels=own_labels(net),
        fine_tune=fine_tune,
        settings=Pruning(adjust_first=True),
    )[1]
    assert [stage.name for stage in adjusted_first.stages][2:] == ["adjusted", "fine-tuned", "adjusted again"]


def test_without_images_the_clients_are_asked() -> None:
    asked = []

    def along(_model: nn.Module, layer: str, _sequence: object, points: list[int]) -> Tensor:
        asked.append((layer, len(points)))
        return torch.tensor([0.9, 0.9, 0.895, 0.7, 0.6, 0.5][: len(points)], dtype=torch.float64)

    _, report = prune(model(), vote([5, 4, 3, 2, 1, 0]), images=torch.zeros(1, 1, 8, 8), along=along)
    assert report.pruned == (5, 4)
    assert asked[0] == (LAYER, 6)
    assert {points for _, points in asked[1:]} == {1}


def test_the_paper_stops_at_a_step_and_ours_at_the_sum_of_steps() -> None:
    falls = torch.tensor([0.9, 0.893, 0.886, 0.879, 0.5, 0.4], dtype=torch.float64)
    pruned = {
        stop: prune(
            model(),
            vote(list(range(6))),
            images=IMAGES,
            along=lambda *answers: falls[: len(answers[3])],
            settings=Pruning(stop=stop),
        )[1].pruned
        for stop in ("step", "total")
    }
    assert {stop: len(channels) for stop, channels in pruned.items()} == {"step": 3, "total": 1}


def test_a_majority_vote_counts_as_well() -> None:
    net = dead_channels(3)
    votes = MajorityVote(6, 3)
    for client in range(3):
        votes.add(client, bits(torch.tensor([5.0, 4, 3, 0, 2, 1]), [1 / 6]))
    _, report = prune(net, votes, images=IMAGES, labels=own_labels(net))
    assert report.vote == "majority"
    assert report.sequence[0] == 3


def test_of_several_rates_the_one_is_taken_at_which_most_can_be_pruned() -> None:
    net = dead_channels(1, 2, 3)
    misled, useful = torch.tensor([5.0, 4, 3, 0, 1, 2]), torch.tensor([5.0, 0, 1, 2, 4, 3])
    for order in ([misled, useful], [useful, misled]):
        votes = MajorityVote(6, 1, rates=2)
        votes.add(0, torch.cat([bits(record, [0.5]) for record in order]))
        _, report = prune(net, votes, images=IMAGES, labels=own_labels(net))
        assert set(report.pruned) >= {1, 2, 3}


def test_delta_can_be_chosen_by_accuracy() -> None:
    net = model()
    _, report = prune(
        net, vote(list(range(6))), images=IMAGES, labels=own_labels(net), settings=Pruning(delta="validated")
    )
    before, after = report.stages[1:]
    assert after.delta is not None
    assert before.accuracy - after.accuracy <= 0.01 + 1e-9


def test_without_a_delta_weights_are_left_as_they_are() -> None:
    net = model()
    pruned, report = prune(
        net, vote(list(range(6))), images=IMAGES, labels=own_labels(net), settings=Pruning(delta=None)
    )
    assert [stage.name for stage in report.stages] == ["suspect", "pruned"]
    kept = [channel for channel in range(6) if channel not in report.pruned]
    assert torch.equal(pruned[0].weight[kept], net[0].weight[kept])


def test_a_large_fall_is_a_failure() -> None:
    def along(_model: nn.Module, _layer: str, _sequence: object, points: list[int]) -> Tensor:
        return torch.full((len(points),), 0.9 if len(points) > 1 else 0.5, dtype=torch.float64)

    _, report = prune(model(), vote(list(range(6))), images=IMAGES, along=along)
    assert report.outcome == "failed"
    assert "more than 5 points lower" in report.reason


def test_who_voted_is_reported() -> None:
    votes = RankingVote(6, 5)
    votes.add(0, ranks(torch.arange(6.0)))
    votes.add(1, torch.zeros(6, dtype=torch.int64))
    votes.admit(2, "no answer in time")
    net = model()
    _, report = prune(net, votes, images=IMAGES, labels=own_labels(net))
    assert (report.ballots, report.missing) == (1, 2)
    assert report.refused == {"repeated and missing ranks": 1, "no answer in time": 1}


def test_a_report_survives_json() -> None:
    net = model()
    _, report = prune(net, vote(list(range(6))), images=IMAGES, labels=own_labels(net))
    assert PruneReport.from_json(report.to_json()) == report
    with pytest.raises(DataError, match="not a pruning report"):
        PruneReport.from_json("{}")


def test_what_it_cannot_use() -> None:
    net, good = model(), vote(list(range(6)))
    labels = own_labels(net)
    with pytest.raises(ConfigError, match="either labels"):
        prune(net, good, images=IMAGES)
    with pytest.raises(ConfigError, match=r"the vote is on 3 channels, but 0 has 6"):
        prune(net, vote([0, 1, 2]), images=IMAGES, labels=labels)
    with pytest.raises(DataError, match="no ballot counts"):
        prune(net, RankingVote(6, 2), images=IMAGES, labels=labels)
    for wrong in (
        {"max_drop": 2},
        {"delta": 0},
        {"delta": float("nan")},
        {"rule": "mode"},
        {"stop": "never"},
    ):
        with pytest.raises(ConfigError):
            Pruning(**wrong)


def test_the_papers_rules_of_a_vote_differ_under_attack() -> None:
    """Three of ten rank channel 0, which the others find dormant, as the most active."""
    votes = RankingVote(6, 10)
    for client in range(10):
        honest = torch.tensor([0, 1, 2, 3, 4, 5])
        votes.add(client, honest if client >= 3 else torch.tensor([5, 4, 3, 2, 1, 0]))
    scores = {rule: votes.scores(rule).tolist() for rule in ("mean", "median", "trimmed")}
    assert scores["median"] == [0, 1, 2, 3, 4, 5]
    assert scores["mean"][0] == 1.5
    for order in scores.values():
        assert all(low < high for low, high in pairwise(order))


def test_modes_and_gradients_stay_as_they_were() -> None:
    net = model().train()
    net[4].weight.requires_grad_(False)
    twin = deepcopy(net)
    pruned, _ = prune(net, vote(list(range(6))), images=IMAGES, labels=own_labels(net))
    for one in (net, pruned):
        assert one.training
        assert not one[4].weight.requires_grad
    assert torch.equal(flatten(net.state_dict()), flatten(twin.state_dict()))


def test_validation_images_that_tell_little_are_warned_of() -> None:
    net = model()
    labels = own_labels(net)
    _, few = prune(net, vote(list(range(6))), images=IMAGES, labels=labels)
    assert "60 validation images" in few.warnings[0]
    enough, same = IMAGES.repeat(5, 1, 1, 1), labels.repeat(5)
    _, fine = prune(net, vote(list(range(6))), images=enough, labels=same)
    assert fine.warnings == ()
    _, wrong = prune(net, vote(list(range(6))), images=enough, labels=(same + 1) % 3)
    assert "most frequent class" in wrong.warnings[0]
