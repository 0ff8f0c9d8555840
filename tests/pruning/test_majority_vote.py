import doctest

import pytest
import torch
from torch import Tensor

from fedmend.errors import ConfigError, DataError
from fedmend.pruning import MajorityVote, bits, majority_vote, pruning_sequence
from fedmend.seeds import generator


def test_bits_by_hand() -> None:
    activations = torch.tensor([0.5, 0.0, 2.0, 0.1])
    assert bits(activations, [0.25, 0.5, 0.75]).tolist() == [[1, 0, 1, 1], [1, 0, 1, 0], [0, 0, 1, 0]]


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
    assert summed.add(0, ballots[0]) == "a second ballot of one client"


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


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="pruning rate"):
        MajorityVote(1, 1, rates=0)
    for rates in ([], [0.0], [1.0], [0.5, float("nan")]):
        with pytest.raises(ConfigError, match="above 0 and below 1"):
            bits(torch.rand(3), rates)


def test_the_example_of_a_tally_is_true() -> None:
    assert doctest.testmod(majority_vote) == (0, 1)  # failed, tried
