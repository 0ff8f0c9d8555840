import pytest
import torch
from torch import Tensor

from fedmend.aggregation import Bulyan, Updates
from fedmend.aggregation.bulyan import bulyan_choice, mean_near_median


def updates(deltas: Tensor) -> Updates:
    mask = torch.ones(deltas.shape[1], dtype=torch.bool)
    return Updates(deltas, torch.ones(len(deltas)), tuple(range(len(deltas))), mask)


def test_the_mean_near_the_median_by_hand() -> None:
    block = torch.tensor([[0.0, 5.0], [1.0, 1.0], [3.0, 2.0], [10.0, 3.0], [20.0, 4.0]])
    # The medians are 3 and 3; nearest three: 3, 1 and 0; 3, 2 and 4, of which 2 and 4 are equally far.
    assert mean_near_median(block, 3).tolist() == pytest.approx([4 / 3, 3])
    assert mean_near_median(block, 1).tolist() == [3, 3]


def test_krum_chooses_one_after_the_other() -> None:
    # f is 1 of 7, so five are chosen. 4 comes first: of the sums of four squared distances, 1 + 9 + 16 + 96^2 is the
    # smallest. Of three, 100 has 1 + 4 + 97^2, less than 3 with 4 + 9 + 97^2. Of two, 1 has 1 + 4. Of one, 101 and 102
    # have 1, and 0 and 3 have 9: 101, then 0.
    line = torch.tensor([[0.0], [1.0], [3.0], [4.0], [100.0], [101.0], [102.0]])
    assert bulyan_choice(torch.cdist(line, line).square(), 1).tolist() == [0, 1, 3, 4, 5]


def test_a_single_value_far_off_in_an_ordinary_update_does_not_count() -> None:
    deltas = torch.randn(11, 1000, generator=torch.Generator().manual_seed(0))
    deltas[0, 0] = 30.0  # its distance from the others, 30 and more than 40 otherwise, doesn't give it away
    delta = Bulyan(2 / 11)(updates(deltas), {})[0]
    assert abs(float(delta[0])) < 1


def test_with_few_clients_it_ends_in_the_median_of_the_chosen() -> None:
    # f is 1 of 5: Krum chooses three, and beta would be 1.
    deltas = torch.tensor([[1.0], [1.1], [1.3], [50.0], [-40.0]])
    assert Bulyan(0.2)(updates(deltas), {})[0].tolist() == pytest.approx([1.1])
    # f is 2: Krum chooses one, and beta would be below 0.
    assert float(Bulyan(0.4)(updates(deltas), {})[0]) in deltas[:3].flatten().tolist()


@pytest.mark.filterwarnings("ignore")
def test_flowers_bulyan_agrees() -> None:
    aggregate = pytest.importorskip("flwr.server.strategy.aggregate")
    deltas = torch.randn(11, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    results = [([delta.numpy()], 1) for delta in deltas]
    (expected,) = aggregate.aggregate_bulyan(results, 2, aggregate.aggregate_krum, to_keep=0)
    assert Bulyan(2 / 11)(updates(deltas), {})[0].tolist() == pytest.approx(expected.tolist())
