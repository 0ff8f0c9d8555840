import pytest
import torch

from fedmend.aggregation import AGGREGATORS, FedAvgM, Updates, aggregator_from_table
from fedmend.errors import ConfigError, DataError

DELTAS, ONES = torch.zeros(2, 3), torch.ones(3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("deltas", "counts", "ids", "parameters"),
    [
        (torch.zeros(0, 3), torch.zeros(0), (), ONES),
        (torch.zeros(3), torch.ones(3), (0, 1, 2), ONES),
        (DELTAS, torch.ones(3), (0, 1), ONES),
        (DELTAS, torch.ones(2, 1), (0, 1), ONES),
        (DELTAS, torch.ones(2), (0, 1), ONES[:2]),
        (DELTAS, torch.ones(3), (0, 1, 2), ONES),
    ],
)
def test_updates_of_other_shapes_are_refused(
    deltas: torch.Tensor, counts: torch.Tensor, ids: tuple[int, ...], parameters: torch.Tensor
) -> None:
    with pytest.raises(DataError, match=r"updates need .*; got "):
        Updates(deltas, counts, ids, parameters)


@pytest.mark.parametrize("count", [0, -1])
def test_a_client_without_examples_is_refused(count: int) -> None:
    with pytest.raises(DataError, match="at least one example"):
        Updates(DELTAS, torch.tensor([5, count]), (0, 1), ONES)


@pytest.mark.parametrize("count", [float("nan"), float("inf"), 2**62, 10**9 + 1])
def test_an_absurd_number_of_examples_is_refused(count: float) -> None:
    with pytest.raises(DataError, match="at most 1,000,000,000; got"):
        Updates(DELTAS, torch.tensor([5, count]), (0, 1), ONES)
    Updates(DELTAS, torch.tensor([5, 10**9]), (0, 1), ONES)


def test_deltas_of_integers_are_refused() -> None:
    with pytest.raises(DataError, match=r"deltas of floats; got torch.int64"):
        Updates(DELTAS.long(), torch.ones(2), (0, 1), ONES)


def test_a_rule_is_named_in_a_table_with_its_settings() -> None:
    assert aggregator_from_table({"kind": "fedavgm", "momentum": 0.5}) == FedAvgM(0.5)
    assert all(aggregator_from_table({"kind": name}) == make() for name, make in AGGREGATORS.items())
    with pytest.raises(ConfigError, match=r"no aggregation rule 'trimmed'; did you mean trimmed-mean\?"):
        aggregator_from_table({"kind": "trimmed"})
    with pytest.raises(ConfigError, match=r"unknown key momentun: did you mean momentum\?"):
        aggregator_from_table({"kind": "fedavgm", "momentun": 0.5})
    with pytest.raises(ConfigError, match="of type int; expected a callable"):
        aggregator_from_table({"kind": "builtins:int"})
