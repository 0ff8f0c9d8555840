"""What all votes refuse."""

import pytest
import torch
from torch import Tensor

from fedmend.errors import DataError
from fedmend.pruning import AccuracyVote, MajorityVote, RankingVote, ranks


def test_one_ballot_a_client() -> None:
    """A second one is refused, even after a bad first, and so is a stranger's."""
    vote = RankingVote(2, 3)
    assert vote.add(0, torch.tensor([0, 1])) is None
    assert vote.add(0, torch.tensor([1, 0])) == "a second ballot of one client"
    assert vote.add(1, torch.tensor([7, 7])) == "ranks out of range"
    assert vote.add(1, torch.tensor([1, 0])) == "a second ballot of one client"
    assert (
        vote.add(3, torch.tensor([0, 1])) == vote.add(-1, torch.tensor([0, 1])) == "not a client of this vote"
    )
    assert (vote.counted, vote.missing) == (1, 1)
    assert vote.refused.total() == 5
    assert vote.scores().tolist() == [0, 1]


def test_a_vote_without_ballots_has_no_scores() -> None:
    for vote in (RankingVote(2, 2), MajorityVote(2, 2)):
        with pytest.raises(DataError, match="no valid ballot"):
            vote.scores()


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
