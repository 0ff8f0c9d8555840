"""What every aggregation rule must do. A new rule is a row in ROWS, with flags for what it can do."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from fedmend.aggregation import (
    AGGREGATORS,
    Aggregator,
    FedAvg,
    FedAvgM,
    State,
    TrimmedMean,
    UniformFedAvg,
    Updates,
)
from fedmend.errors import DataError
from fedmend.seeds import generator


@dataclass(frozen=True)
class Row:
    """A rule and what it can do.

    Attributes:
        rule: with settings for a minority of three Byzantine clients in ten.
        stateful: it remembers something from round to round.
        ignores_num_examples: every client counts the same.
        tolerates_byzantine: three of ten clients can't drag the result beyond the honest clients' values.
        leaves_out_non_finite: an update that isn't finite doesn't count; otherwise the result isn't finite either.
    """

    rule: Aggregator
    stateful: bool = False
    ignores_num_examples: bool = False
    tolerates_byzantine: bool = False
    leaves_out_non_finite: bool = False


ROWS = {
    "fedavg": Row(FedAvg()),
    "uniform": Row(UniformFedAvg(), ignores_num_examples=True),
    "trimmed-mean": Row(
        TrimmedMean(trim=0.3), ignores_num_examples=True, tolerates_byzantine=True, leaves_out_non_finite=True
    ),
    "fedavgm": Row(FedAvgM(), stateful=True),
}
every_rule = pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in ROWS.items()])

CLIENTS, SIZE = 10, 12


def updates(deltas: Tensor | None = None, counts: Tensor | None = None) -> Updates:
    """Ten honest clients; the last three of twelve values are buffers."""
    drawn = 1 + 0.1 * torch.randn(CLIENTS, SIZE, generator=generator(0))
    deltas = drawn if deltas is None else deltas
    counts = torch.arange(1, len(deltas) + 1) if counts is None else counts
    return Updates(deltas, counts, tuple(range(len(deltas))), torch.arange(SIZE) < SIZE - 3)


def after(row: Row, rounds: int) -> State:
    """The rule's state after so many rounds."""
    state = State()
    for _ in range(rounds):
        _, state = row.rule(updates(), state)
    return state


def test_every_rule_has_a_row() -> None:
    assert set(ROWS) == set(AGGREGATORS)
    assert all(isinstance(row.rule, AGGREGATORS[name]) for name, row in ROWS.items())  # type: ignore[arg-type]


@every_rule
def test_what_all_clients_want_is_done(row: Row) -> None:
    same = torch.linspace(-1, 1, SIZE)
    delta, _ = row.rule(updates(same.expand(CLIENTS, SIZE).clone()), {})
    assert (delta.shape, delta.dtype) == ((SIZE,), torch.float32)
    torch.testing.assert_close(delta, same)


@every_rule
def test_one_client_is_taken_as_it_is(row: Row) -> None:
    one = torch.randn(1, SIZE, generator=generator(1))
    assert torch.equal(row.rule(updates(one), {})[0], one[0])


@every_rule
def test_it_is_pure(row: Row) -> None:
    given, state = updates(), after(row, 2)
    deltas, remembered = given.deltas.clone(), {name: value.clone() for name, value in state.items()}
    first, next_state = row.rule(given, state)
    second, _ = row.rule(given, state)
    assert torch.equal(first, second)
    assert torch.equal(given.deltas, deltas)
    assert state.keys() == remembered.keys()
    assert all(torch.equal(state[name], remembered[name]) for name in remembered)
    assert all(isinstance(value, Tensor) for value in next_state.values())


@every_rule
def test_only_a_stateful_rule_remembers(row: Row) -> None:
    assert bool(after(row, 1)) == row.stateful
    fresh, later = (row.rule(updates(), after(row, rounds))[0] for rounds in (0, 2))
    assert torch.equal(fresh, later) != row.stateful


@every_rule
def test_only_some_rules_heed_how_many_examples_clients_have(row: Row) -> None:
    even, uneven = (row.rule(updates(counts=counts), {})[0] for counts in (torch.ones(CLIENTS), None))
    assert torch.equal(even, uneven) == row.ignores_num_examples


@every_rule
def test_the_order_of_clients_does_not_matter(row: Row) -> None:
    given, order = updates(), torch.randperm(CLIENTS, generator=generator(2))
    shuffled = Updates(
        given.deltas[order], given.num_examples[order], tuple(order.tolist()), given.parameters
    )
    torch.testing.assert_close(row.rule(shuffled, {})[0], row.rule(given, {})[0])


@every_rule
@pytest.mark.parametrize("factor", [-1e4, 1e4])
def test_only_some_rules_tolerate_a_byzantine_minority(row: Row, factor: float) -> None:
    honest = updates().deltas
    attacked = honest.clone()
    attacked[[1, 4, 8]] *= factor
    delta, _ = row.rule(updates(attacked), {})
    trusted = honest[[0, 2, 3, 5, 6, 7, 9]]
    inside = (delta >= trusted.min(0).values) & (delta <= trusted.max(0).values)
    assert bool(inside.all()) == row.tolerates_byzantine


@every_rule
def test_updates_that_are_not_finite_are_left_out_or_seen_in_the_result(row: Row) -> None:
    deltas = updates().deltas.clone()
    deltas[3, 5] = torch.nan
    delta, _ = row.rule(updates(deltas), {})
    assert bool(delta.isfinite().all()) == row.leaves_out_non_finite
    if row.leaves_out_non_finite:
        others = [number for number in range(CLIENTS) if number != 3]
        assert torch.equal(delta, row.rule(updates(deltas[others]), {})[0])
        with pytest.raises(DataError, match="no client's update is finite"):
            row.rule(updates(torch.full((2, SIZE), torch.nan)), {})


@every_rule
def test_no_clients_are_refused(row: Row) -> None:
    with pytest.raises(DataError, match="one client or more"):
        row.rule(updates(torch.empty(0, SIZE)), {})
