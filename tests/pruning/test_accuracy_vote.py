from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fedmend.errors import ConfigError, DataError
from fedmend.pruning import AccuracyVote, how_far
from fedmend.seeds import generator


def reported(*reports: Sequence[float], trim: float = 0.3) -> AccuracyVote:
    vote = AccuracyVote(len(reports[0]), len(reports), trim)
    for client, report in enumerate(reports):
        assert vote.add(client, torch.tensor(report)) is None
    return vote


def test_reports_are_combined_as_falls_by_hand() -> None:
    """The falls are 0, 0.1, 0.2, 0.3 and 0: one at either end is left out. The first point is the median."""
    vote = reported([0.9, 0.9], [0.8, 0.7], [0.5, 0.3], [1.0, 0.7], [0.6, 0.6], trim=0.2)
    assert vote.accuracies().tolist() == pytest.approx([0.8, 0.8 - (0 + 0.1 + 0.2) / 3])
    assert vote.accuracies().dtype == torch.float64
    assert reported([0.9, 0.4]).accuracies().tolist() == pytest.approx([0.9, 0.4])


def test_combined_accuracies_stay_fractions() -> None:
    """One model gets much better for one client; the median of the first points is that of the others."""
    assert reported([0.9, 0.9], [0.1, 1.0], [0.9, 0.9], trim=0.0).accuracies().tolist() == pytest.approx(
        [0.9, 1.0]
    )
    assert reported([0.1, 0.1], [0.9, 0.0], [0.1, 0.1], trim=0.0).accuracies().tolist() == pytest.approx(
        [0.1, 0.0]
    )


def test_a_client_whose_images_are_harder_counts_by_its_fall_alone() -> None:
    vote = reported(*[[0.9, 0.8]] * 3, [0.2, 0.2])
    assert vote.accuracies().tolist() == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (torch.rand(2), "wrong length or kind"),
        (torch.rand(4), "wrong length or kind"),
        (torch.rand(1, 3), "wrong length or kind"),
        (torch.ones(3, dtype=torch.int64), "wrong length or kind"),
        (torch.ones(3, dtype=torch.bool), "wrong length or kind"),
        ([1.0, 0.9, 0.8], "wrong length or kind"),
        (None, "wrong length or kind"),
        (torch.tensor([1.0, 0.5, float("nan")]), "NaN or infinite"),
        (torch.tensor([1.0, float("inf"), 0.5]), "NaN or infinite"),
        (torch.tensor([1.0, 1.001, 0.5]), "below 0 or above 1"),
        (torch.tensor([1.0, -0.001, 0.5]), "below 0 or above 1"),
    ],
)
def test_a_bad_report_is_refused_and_the_vote_goes_on(report: Tensor, reason: str) -> None:
    vote = AccuracyVote(3, 3)
    assert vote.add(0, torch.tensor([1.0, 0.5, 0.25])) is None
    said = vote.add(1, report)
    assert said is not None
    assert reason in said
    assert (vote.counted, dict(vote.refused), vote.missing) == (1, {said: 1}, 1)
    assert vote.accuracies().tolist() == [1.0, 0.5, 0.25]


def test_one_report_a_client() -> None:
    """A second one is refused, even after a bad first, and so is a stranger's."""
    vote, good, bad = AccuracyVote(1, 3), torch.tensor([0.5]), torch.tensor([7.0])
    assert vote.add(0, good) is None
    assert vote.add(0, torch.tensor([1.0])) == "a second ballot of one client"
    assert vote.add(1, bad) == "accuracies below 0 or above 1"
    assert vote.add(1, good) == "a second ballot of one client"
    assert vote.add(3, good) == vote.add(-1, bad) == "not a client of this vote"
    assert (vote.counted, vote.missing, vote.refused.total()) == (1, 1, 5)
    assert vote.accuracies().tolist() == [0.5]


@pytest.mark.parametrize("lie", ["prune nothing", "prune all", "a rise", "only the first"])
@pytest.mark.parametrize("clients", [10, 17, 20])
def test_three_of_ten_lying_clients_cannot_move_the_result_beyond_honest_reports(
    clients: int, lie: str
) -> None:
    points, random = 8, generator(clients)
    lies = {
        "prune nothing": torch.tensor([1.0] + [0.0] * (points - 1)),
        "prune all": torch.ones(points),
        "a rise": torch.tensor([0.0] + [1.0] * (points - 1)),
        "only the first": torch.zeros(points),
    }
    steps = 0.1 * torch.rand(clients, points, generator=random)
    steps[:, 0] = 0.2 * torch.rand(clients, generator=random)
    honest = 1 - steps.cumsum(1)
    lying = int(0.3 * clients)
    vote = AccuracyVote(points, clients, trim=0.3)
    for client in range(clients):
        assert vote.add(client, lies[lie] if client < lying else honest[client]) is None
    found, truth = vote.accuracies(), honest[lying:].double()
    fall, falls = found[0] - found, truth[:, :1] - truth
    assert bool((fall >= falls.min(0).values - 1e-9).all())
    assert bool((fall <= falls.max(0).values + 1e-9).all())
    assert bool((found >= truth[:, :1].min() - falls.max(0).values).all())
    assert truth[:, 0].min() <= found[0] <= truth[:, 0].max()


def test_without_trimming_one_lying_client_can() -> None:
    reports = [[0.9, 0.9]] * 9 + [[1.0, 0.0]]
    assert how_far(reported(*reports, trim=0.0).accuracies()) == 0
    assert how_far(reported(*reports, trim=0.1).accuracies()) == 1


def test_a_vote_needs_reports_and_settings_in_range() -> None:
    with pytest.raises(DataError, match="no valid report of accuracies"):
        AccuracyVote(2, 2).accuracies()
    for points, clients, trim in ((0, 1, 0.3), (1, 0, 0.3), (1, 1, 0.5), (1, 1, -0.1), (1, 1, float("nan"))):
        with pytest.raises(ConfigError, match="1 or more"):
            AccuracyVote(points, clients, trim)
