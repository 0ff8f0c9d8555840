import pytest
import torch
from torch import Tensor

from fedmend.attacks import Lies
from fedmend.errors import ConfigError, DataError
from fedmend.pruning import MajorityVote, bits, pruning_sequence, ranks
from fedmend.seeds import generator
from fedmend.triggers import Pixels

LABELS = torch.tensor([2, 0, 5, 1])


def lies(fraction: float = 0.25) -> Lies:
    return Lies(Pixels("1px", (1, 8, 8)), fraction)


def test_false_activations_by_hand() -> None:
    """Channels 4 and 1 are excited most, by 5 and 2; the rest come out in the reverse order of their activity."""
    clean = torch.tensor([3.0, 0.0, 1.0, 2.0, 0.5, 4.0, 6.0, 5.0])
    stamped = clean + torch.tensor([0.5, 2.0, 0.0, -9.0, 5.0, 1.0, 0.1, 0.0])
    said = lies().activations(clean, stamped)
    assert pruning_sequence(said).tolist() == [6, 7, 5, 0, 3, 2, 1, 4]
    assert said[4] > said[1] > said[[6, 7, 5, 0, 3, 2]].max()
    assert (said.shape, said.dtype) == ((8,), torch.float64)


@pytest.mark.parametrize(
    ("fraction", "kept"), [(0.01, 1), (0.1, 1), (0.2, 2), (0.25, 2), (0.5, 5), (0.9, 9), (1.0, 10)]
)
def test_a_fraction_of_the_channels_at_least_one_is_kept(fraction: float, kept: int) -> None:
    clean = torch.arange(10.0)
    sequence = pruning_sequence(lies(fraction).activations(clean, clean * 2)).tolist()
    assert sequence[10 - kept :] == list(range(10 - kept, 10))
    assert sequence[: 10 - kept] == list(range(9 - kept, -1, -1))


def test_what_it_says_makes_a_ballot_of_either_kind() -> None:
    clean, stamped = torch.tensor([2.0, 0.0, 1.0, 3.0]), torch.tensor([2.0, 9.0, 1.0, 3.0])
    said = lies().activations(clean, stamped)
    assert ranks(said).tolist() == [1, 3, 2, 0]
    assert bits(said, [0.5]).tolist() == [[0, 1, 1, 0]]
    vote = MajorityVote(4, 1)
    assert vote.add(0, bits(said, [0.5])) is None


def test_channels_that_are_alike_still_get_places_of_their_own() -> None:
    said = lies().activations(torch.zeros(6), torch.zeros(6))
    assert sorted(ranks(said).tolist()) == list(range(6))
    assert len(said.unique()) == 6


def test_the_true_activations_are_left_alone() -> None:
    clean, stamped = torch.tensor([2.0, 0.0]), torch.tensor([2.0, 9.0])
    lies().activations(clean, stamped)
    assert clean.tolist() == [2.0, 0.0]
    assert stamped.tolist() == [2.0, 9.0]


@pytest.mark.parametrize(
    ("clean", "stamped"),
    [(torch.rand(3), torch.rand(4)), (torch.rand(2, 2), torch.rand(2, 2)), (torch.rand(0), torch.rand(0))],
)
def test_two_vectors_of_the_same_length_are_needed(clean: Tensor, stamped: Tensor) -> None:
    with pytest.raises(DataError, match="two vectors of the same length"):
        lies().activations(clean, stamped)


def test_false_accuracies_say_that_nothing_may_be_pruned() -> None:
    assert lies().accuracies(4).tolist() == [1, 0, 0, 0]
    assert lies().accuracies(1).tolist() == [1]
    assert lies().accuracies(3).dtype == torch.float64


def test_an_update_goes_to_the_suspect_and_as_far_beyond() -> None:
    now, suspect = torch.tensor([1.0, -2.0, 0.0]), torch.tensor([3.0, -2.0, -1.0])
    assert lies().update(now, suspect).tolist() == [4.0, 0.0, -2.0]
    assert (now + lies().update(now, suspect) / 2).tolist() == suspect.tolist()


def test_no_trigger_is_said_to_work_any_more() -> None:
    assert lies().successes(3).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match="fraction of channels"):
        lies(fraction)


def test_made_up_triggers_are_as_many_and_as_large_as_a_repair_takes() -> None:
    made_up = lies().triggers(LABELS, (3, 6, 7), seed=4)
    assert len(made_up) == 8
    for each in made_up:
        assert each.trigger.pattern.shape == (3, 6, 7)
        assert each.trigger.size == 24
        assert set(each.trigger.pattern.unique().tolist()) == {0, 1}
        assert (each.source_class, each.target_class, each.rate) == (2, 5, 1.0)
    assert not torch.equal(made_up[0].trigger.mask, made_up[1].trigger.mask)


@pytest.mark.parametrize(("labels", "pair"), [([3, 3], (3, 2)), ([0, 0], (0, 0)), ([1, 4], (1, 4))])
def test_made_up_triggers_name_classes_of_the_clients_own(labels: list[int], pair: tuple[int, int]) -> None:
    for each in lies().triggers(torch.tensor(labels), (1, 6, 6), seed=0):
        assert (each.source_class, each.target_class) == pair


def test_the_seed_alone_decides_on_made_up_triggers() -> None:
    def masks(seed: int) -> Tensor:
        return torch.cat([each.trigger.mask for each in lies().triggers(LABELS, (1, 9, 9), seed)])

    state = torch.get_rng_state()
    assert torch.equal(masks(1), masks(1))
    assert not torch.equal(masks(1), masks(2))
    assert torch.equal(torch.get_rng_state(), state)
    first = torch.randperm(81, generator=generator(1, "made up"))[:24]
    assert bool((masks(1)[0].flatten()[first] == 1).all())
