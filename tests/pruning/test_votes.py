import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fedmend.errors import ConfigError, DataError
from fedmend.pruning import AccuracyVote, MajorityVote, RankingVote, bits, pruning_sequence, ranks
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


def test_bits_by_hand() -> None:
    activations = torch.tensor([0.5, 0.0, 2.0, 0.1])
    assert bits(activations, [0.25, 0.5, 0.75]).tolist() == [[1, 0, 1, 1], [1, 0, 1, 0], [0, 0, 1, 0]]


def test_the_sequence_begins_with_the_lowest_score() -> None:
    assert pruning_sequence(torch.tensor([0.5, 0.1, 0.5, 0.0])).tolist() == [3, 1, 0, 2]


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


def test_the_majority_by_hand() -> None:
    vote = MajorityVote(3, 3, rates=2)
    for client, ballot in enumerate([[[1, 0, 1], [1, 0, 0]], [[1, 1, 0], [0, 1, 0]], [[1, 0, 1], [1, 0, 0]]]):
        assert vote.add(client, torch.tensor(ballot)) is None
    assert vote.tally.tolist() == [[3, 1, 2], [2, 1, 0]]
    assert pruning_sequence(vote.scores(0)).tolist() == [1, 2, 0]
    assert pruning_sequence(vote.scores(1)).tolist() == [2, 1, 0]


def test_at_one_rate_scores_are_shares_of_the_ballots() -> None:
    vote = MajorityVote.from_tally(torch.tensor([[3, 1, 2]]), 3)
    assert vote.scores().tolist() == pytest.approx([1, 1 / 3, 2 / 3])


def test_where_as_many_keep_a_channel_the_other_rates_decide() -> None:
    vote = MajorityVote.from_tally(torch.tensor([[2, 2, 3, 2], [1, 0, 3, 2]]), 3)
    assert pruning_sequence(vote.scores(0)).tolist() == [1, 0, 3, 2]


def test_a_tally_from_elsewhere_counts_like_the_ballots() -> None:
    ballots = [torch.tensor([[1, 0, 1]]), torch.tensor([[1, 1, 0]])]
    vote = MajorityVote(3, 2)
    for client, ballot in enumerate(ballots):
        vote.add(client, ballot)
    summed = MajorityVote.from_tally(ballots[0] + ballots[1], 2)
    assert torch.equal(summed.scores(), vote.scores())
    assert (summed.counted, summed.missing, summed.channels) == (2, 0, 3)
    assert summed.add(0, ballots[0]) == "a second answer of one client"


@pytest.mark.parametrize(
    ("tally", "ballots"),
    [([[3, 1]], 2), ([[-1, 1]], 2), ([[0, 0]], 0), ([[0.5, 1.0]], 2), ([1, 0], 2)],
)
def test_a_tally_that_no_bits_add_up_to_is_refused(tally: list[object], ballots: int) -> None:
    with pytest.raises(DataError, match="tally"):
        MajorityVote.from_tally(torch.tensor(tally), ballots)


def test_pairwise_masked_ballots_give_the_same_tally() -> None:
    """Secure aggregation: each pair of clients shares a random vector that one adds and the other subtracts."""
    random, modulus = generator(0), 2**16
    ballots = [bits(torch.rand(50, generator=random), [0.3, 0.6]).long() for _ in range(8)]
    masked = [ballot.clone() for ballot in ballots]
    for first in range(8):
        for second in range(first):
            shared = torch.randint(modulus, (2, 50), generator=random)
            masked[first] += shared
            masked[second] -= shared
    sent = [ballot % modulus for ballot in masked]
    vote = MajorityVote(50, 8, rates=2)
    for client, ballot in enumerate(ballots):
        vote.add(client, ballot)
    assert torch.equal(torch.stack(sent).sum(0) % modulus, vote.tally)
    assert all(int(ballot.max()) > 1 for ballot in sent)  # what is sent says nothing


@pytest.mark.parametrize(
    ("ballot", "reason"),
    [
        (torch.arange(3), "length"),
        (torch.arange(5), "length"),
        (torch.arange(4)[None], "length"),
        ("0123", "length"),
        (torch.tensor([0.0, 1.0, 2.0, 3.0]), "whole numbers"),
        (torch.tensor([0.0, 1.0, 2.0, float("nan")]), "whole numbers"),
        (torch.tensor([True, False, True, False]), "whole numbers"),
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


@pytest.mark.parametrize(
    ("ballot", "reason"),
    [
        (torch.tensor([1, 0, 1]), "shape"),
        (torch.tensor([[1, 0]]), "shape"),
        (None, "shape"),
        (torch.tensor([[1, 0, 2]]), "0 or 1"),
        (torch.tensor([[1, 0, -1]]), "0 or 1"),
        (torch.tensor([[1.0, 0.0, float("nan")]]), "0 or 1"),
        (torch.tensor([[1.0, 0.0, 0.5]]), "0 or 1"),
    ],
)
def test_bad_bits_are_refused(ballot: Tensor, reason: str) -> None:
    vote = MajorityVote(3, 2)
    vote.add(0, torch.tensor([[1, 0, 1]]))
    said = vote.add(1, ballot)
    assert said is not None
    assert reason in said
    assert (vote.counted, vote.tally.tolist()) == (1, [[1, 0, 1]])


def test_one_ballot_a_client() -> None:
    """A second one is refused, even after a bad first, and so is a stranger's."""
    vote = RankingVote(2, 3)
    assert vote.add(0, torch.tensor([0, 1])) is None
    assert vote.add(0, torch.tensor([1, 0])) == "a second answer of one client"
    assert vote.add(1, torch.tensor([7, 7])) == "ranks out of range"
    assert vote.add(1, torch.tensor([1, 0])) == "a second answer of one client"
    assert (
        vote.add(3, torch.tensor([0, 1])) == vote.add(-1, torch.tensor([0, 1])) == "not a client of this vote"
    )
    assert (vote.counted, vote.missing) == (1, 1)
    assert vote.refused.total() == 5
    assert vote.scores().tolist() == [0, 1]


def test_a_vote_without_ballots_has_no_scores() -> None:
    for vote in (RankingVote(2, 2), MajorityVote(2, 2)):
        with pytest.raises(DataError, match="no ballot counts"):
            vote.scores()


def test_bad_settings_are_refused() -> None:
    for channels, clients in ((0, 1), (1, 0)):
        with pytest.raises(ConfigError, match="1 or more"):
            RankingVote(channels, clients)
    with pytest.raises(ConfigError, match="pruning rate"):
        MajorityVote(1, 1, rates=0)
    for rates in ([], [0.0], [1.0], [0.5, float("nan")]):
        with pytest.raises(ConfigError, match="above 0 and below 1"):
            bits(torch.rand(3), rates)
    vote = ranked([0, 1])
    for rule, trim in (("mode", 0.25), ("trimmed", 0.5), ("trimmed", -0.1), ("trimmed", float("nan"))):
        with pytest.raises(ConfigError, match="rule must be"):
            vote.scores(rule, trim)  # type: ignore[arg-type]


@pytest.mark.parametrize("activations", [torch.rand(2, 2), torch.rand(0), torch.tensor([1.0, float("nan")])])
def test_activations_must_be_a_vector_of_numbers(activations: Tensor) -> None:
    with pytest.raises(DataError, match="vector of finite numbers"):
        ranks(activations)


@pytest.mark.parametrize("client", ["0", 0.5, None, True, -1, 2])
def test_a_client_is_a_number_of_this_vote(client: object) -> None:
    vote = RankingVote(2, 2)
    assert vote.add(client, torch.tensor([0, 1])) == "not a client of this vote"  # type: ignore[arg-type]
    assert (vote.counted, vote.missing) == (0, 2)


ODD = [
    torch.tensor([0, 1], dtype=torch.uint16),
    torch.tensor([0, 1]).to_sparse(),
    torch.zeros(2, device="meta"),
    torch.tensor([0, 1], dtype=torch.complex64),
    None,
    [0, 1],
]


@pytest.mark.parametrize("ballot", ODD, ids=str)
def test_odd_tensors_are_refused_by_every_vote(ballot: object) -> None:
    votes = (RankingVote(2, 1), MajorityVote(2, 1), AccuracyVote(2, 1))
    for vote in votes:
        shaped = ballot[None] if isinstance(vote, MajorityVote) and isinstance(ballot, Tensor) else ballot
        assert vote.add(0, shaped) is not None  # type: ignore[arg-type]
        assert (vote.counted, sum(vote.refused.values())) == (0, 1)


def test_three_of_ten_do_not_move_a_trimmed_mean() -> None:
    vote = RankingVote(3, 10)
    for client in range(10):
        vote.add(client, torch.tensor([2, 1, 0] if client < 3 else [0, 1, 2]))
    assert vote.scores("trimmed").tolist() == [0, 1, 2]
