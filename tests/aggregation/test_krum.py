import pytest
import torch
from torch import Tensor

from fedmend.aggregation import Krum, MultiKrum, Updates
from fedmend.aggregation.krum import krum_scores

# Five clients on a line. With f = 1 two nearest others count. Squared distances to them:
# 0: 1 + 9; 1: 1 + 4; 3: 4 + 1; 4: 1 + 9; 100: 96^2 + 97^2.
LINE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [4.0, 0.0], [100.0, 0.0]])


def updates(deltas: Tensor, parameters: Tensor | None = None) -> Updates:
    size = deltas.shape[1]
    mask = torch.ones(size, dtype=torch.bool) if parameters is None else parameters
    return Updates(deltas, torch.ones(len(deltas)), tuple(range(len(deltas))), mask)


def test_scores_by_hand() -> None:
    distances = torch.cdist(LINE, LINE).square()
    assert krum_scores(distances, 1).tolist() == pytest.approx([10, 5, 5, 10, 96**2 + 97**2])
    assert krum_scores(distances, 4).tolist() == pytest.approx([1, 1, 1, 1, 96**2])  # one other at least


def test_the_best_score_wins() -> None:
    assert Krum(0.2)(updates(LINE), {})[0].tolist() == [1, 0]
    moved = LINE.clone()
    moved[2, 0] = 2.5  # then 2.5^2 - 1.5^2 + 1.5^2 ...: 1: 1 + 2.25, the others' are larger
    assert Krum(0.2)(updates(moved), {})[0].tolist() == [1, 0]


def test_multi_krum_by_hand() -> None:
    # n - f - 2 = 2 clients: 1 and 3, whose mean is 2; four fifths of them: all but the last.
    assert MultiKrum(0.2)(updates(LINE), {})[0].tolist() == [2, 0]
    assert MultiKrum(0.2, keep=0.8)(updates(LINE), {})[0].tolist() == [2, 0]
    assert MultiKrum(0.2, keep=0.1)(updates(LINE), {})[0].tolist() == [1, 0]
    assert MultiKrum(0.2, keep=1.0)(updates(LINE), {})[0][0] == pytest.approx(108 / 5)


def test_multi_krum_hands_its_choice_to_another_rule() -> None:
    kept = MultiKrum(0.2).prepare(updates(LINE))
    assert kept.client_ids == (1, 2)
    assert torch.equal(kept.deltas, LINE[1:3])


def test_buffers_neither_count_nor_are_taken_from_one_client() -> None:
    deltas = torch.cat([LINE, torch.tensor([[7.0], [1e6], [7.0], [8.0], [9.0]])], dim=1)
    mask = torch.tensor([True, True, False])
    assert Krum(0.2)(updates(deltas, mask), {})[0].tolist() == [1, 0, 8]
    assert MultiKrum(0.2)(updates(deltas, mask), {})[0].tolist() == [2, 0, 8]


@pytest.mark.filterwarnings("ignore")
def test_flowers_krum_agrees() -> None:
    aggregate = pytest.importorskip("flwr.server.strategy.aggregate")
    deltas = torch.randn(11, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    results = [([delta.numpy()], 1) for delta in deltas]
    (one,) = aggregate.aggregate_krum(results, 2, 0)
    (several,) = aggregate.aggregate_krum(results, 2, 5)
    assert Krum(2 / 11)(updates(deltas), {})[0].tolist() == pytest.approx(one.tolist())
    assert MultiKrum(2 / 11, keep=5 / 11)(updates(deltas), {})[0].tolist() == pytest.approx(several.tolist())
