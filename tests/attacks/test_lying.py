import pytest
import torch
from torch import Tensor

from fedmend.attacks import false_accuracies, false_activations
from fedmend.errors import DataError
from fedmend.pruning import MajorityVote, bits, pruning_sequence, ranks


def test_false_activations_by_hand() -> None:
    """Channels 4 and 1 are excited most, by 5 and 2; the rest come out in the reverse order of their activity."""
    clean = torch.tensor([3.0, 0.0, 1.0, 2.0, 0.5, 4.0, 6.0, 5.0])
    stamped = clean + torch.tensor([0.5, 2.0, 0.0, -9.0, 5.0, 1.0, 0.1, 0.0])
    answer = false_activations(clean, stamped)
    assert pruning_sequence(answer).tolist() == [6, 7, 5, 0, 3, 2, 1, 4]
    assert answer[4] > answer[1] > answer[[6, 7, 5, 0, 3, 2]].max()
    assert (answer.shape, answer.dtype) == ((8,), torch.float64)


@pytest.mark.parametrize(
    ("share", "kept"), [(0.01, 1), (0.1, 1), (0.2, 2), (0.25, 2), (0.5, 5), (0.9, 9), (1.0, 10)]
)
def test_a_share_of_the_channels_at_least_one_is_kept(share: float, kept: int) -> None:
    clean = torch.arange(10.0)
    sequence = pruning_sequence(false_activations(clean, clean * 2, share)).tolist()
    assert sequence[10 - kept :] == list(range(10 - kept, 10))
    assert sequence[: 10 - kept] == list(range(9 - kept, -1, -1))


def test_what_it_answers_makes_a_ballot_of_either_kind() -> None:
    clean, stamped = torch.tensor([2.0, 0.0, 1.0, 3.0]), torch.tensor([2.0, 9.0, 1.0, 3.0])
    answer = false_activations(clean, stamped)
    assert ranks(answer).tolist() == [1, 3, 2, 0]
    assert bits(answer, [0.5]).tolist() == [[0, 1, 1, 0]]
    vote = MajorityVote(4, 1)
    assert vote.add(0, bits(answer, [0.5])) is None


def test_channels_that_are_alike_still_get_places_of_their_own() -> None:
    answer = false_activations(torch.zeros(6), torch.zeros(6))
    assert sorted(ranks(answer).tolist()) == list(range(6))
    assert len(answer.unique()) == 6


def test_the_true_activations_are_left_alone() -> None:
    clean, stamped = torch.tensor([2.0, 0.0]), torch.tensor([2.0, 9.0])
    false_activations(clean, stamped)
    assert clean.tolist() == [2.0, 0.0]
    assert stamped.tolist() == [2.0, 9.0]


@pytest.mark.parametrize(
    ("clean", "stamped"),
    [(torch.rand(3), torch.rand(4)), (torch.rand(2, 2), torch.rand(2, 2)), (torch.rand(0), torch.rand(0))],
)
def test_two_vectors_of_as_many_channels_are_needed(clean: Tensor, stamped: Tensor) -> None:
    with pytest.raises(DataError, match="two vectors of as many channels"):
        false_activations(clean, stamped)


def test_false_accuracies_say_that_nothing_may_be_pruned() -> None:
    assert false_accuracies(4).tolist() == [1, 0, 0, 0]
    assert false_accuracies(1).tolist() == [1]
    assert false_accuracies(3).dtype == torch.float64
