import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fedmend.errors import ConfigError
from fedmend.pruning import RankingVote, pruning_sequence, ranks
from fedmend.seeds import generator


def ranked(*ballots: Sequence[int]) -> RankingVote:
    vote = RankingVote(len(ballots[0]), len(ballots))
    for client, ballot in enumerate(ballots):
        assert vote.add(client, torch.tensor(ballot)) is None
    return vote


def test_ranks_by_hand() -> None:
    assert ranks(torch.tensor([0.5, 0.0, 2.0, 0.1])).tolist() == [2, 0, 3, 1]
    assert ranks(torch.tensor([1.0, 0.0, 1.0, 0.0])).tolist() == [
        2,
        0,
        3,
        1,
    ]  # of equal ones the first is lower


def test_the_mean_rank_by_hand() -> None:
    vote = ranked([0, 1, 2, 3], [0, 2, 1, 3], [1, 0, 3, 2])
    assert vote.scores().tolist() == pytest.approx([1 / 3, 1, 2, 8 / 3])


def test_every_rule_agrees_with_sorting_all_ballots() -> None:
    for clients in (1, 2, 5, 8, 11):
        random = generator(clients)
        ballots = torch.stack([torch.randperm(6, generator=random) for _ in range(clients)])
        vote = ranked(*ballots.tolist())
        ordered = ballots.sort(0).values.double()
        middle = ordered[(clients - 1) // 2 : clients // 2 + 1].mean(0)
        cut = min(math.ceil(0.3 * clients), (clients - 1) // 2)
        assert torch.allclose(vote.scores("mean"), ordered.mean(0))
        assert torch.allclose(vote.scores("median"), middle)
        assert torch.allclose(vote.scores("trimmed"), ordered[cut : clients - cut].mean(0))


def test_a_minority_drags_the_mean_and_not_the_median() -> None:
    """Seven of ten say that channel 0 is the most dormant of 20; three say that it is the most active."""
    honest = torch.arange(20)
    vote = RankingVote(20, 10)
    for client in range(10):
        ballot = honest if client < 7 else torch.cat([torch.tensor([19]), torch.arange(19)])
        assert vote.add(client, ballot) is None
    assert vote.scores("mean")[0] == pytest.approx(0.3 * 19)
    assert pruning_sequence(vote.scores("mean"))[0] != 0
    for rule in ("median", "trimmed"):
        scores = vote.scores(rule, trim=0.3)  # type: ignore[arg-type]
        assert scores[0] == 0
        assert pruning_sequence(scores)[0] == 0


@pytest.mark.parametrize(
    ("ballot", "reason"),
    [
        (torch.arange(3), "length"),
        (torch.arange(5), "length"),
        (torch.arange(4)[None], "length"),
        ("0123", "length"),
        (torch.tensor([0.0, 1.0, 2.0, 3.0]), "length or kind"),
        (torch.tensor([0.0, 1.0, 2.0, float("nan")]), "length or kind"),
        (torch.tensor([True, False, True, False]), "length or kind"),
        (torch.tensor([0, 1, 2, 4]), "out of range"),
        (torch.tensor([-1, 1, 2, 3]), "out of range"),
        (torch.tensor([0, 1, 2, 2]), "repeated and missing"),
    ],
)
def test_a_bad_ranking_is_refused_and_the_vote_goes_on(ballot: Tensor, reason: str) -> None:
    vote = RankingVote(4, 3)
    vote.add(0, torch.tensor([3, 2, 1, 0]))
    said = vote.add(1, ballot)
    assert said is not None
    assert reason in said
    assert (vote.counted, dict(vote.refused), vote.missing) == (1, {said: 1}, 1)
    assert vote.scores().tolist() == [3, 2, 1, 0]


def test_bad_settings_are_refused() -> None:
    for channels, clients in ((0, 1), (1, 0)):
        with pytest.raises(ConfigError, match="1 or more"):
            RankingVote(channels, clients)
    vote = ranked([0, 1])
    for rule, trim in (("mode", 0.25), ("trimmed", 0.5), ("trimmed", -0.1), ("trimmed", float("nan"))):
        with pytest.raises(ConfigError, match="rule must be"):
            vote.scores(rule, trim)  # type: ignore[arg-type]


def test_three_of_ten_do_not_move_a_trimmed_mean() -> None:
    vote = RankingVote(3, 10)
    for client in range(10):
        vote.add(client, torch.tensor([2, 1, 0] if client < 3 else [0, 1, 2]))
    assert vote.scores("trimmed").tolist() == [0, 1, 2]
