"""What every aggregation rule must do. A new rule is a row in ROWS, with flags for what it can do."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from fedmend.aggregation import (
    AGGREGATORS,
    FLAME,
    Aggregator,
    Bulyan,
    Chain,
    CoordinateMedian,
    FedAvg,
    FedAvgM,
    FLTrust,
    FoolsGold,
    GeometricMedian,
    Krum,
    MultiKrum,
    NormClipping,
    Spectral,
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
        rule: with settings for a minority of three Byzantine clients in ten, and without noise.
        stateful: it remembers something from round to round.
        ignores_num_examples: every client counts the same; otherwise a client counts as at most ten others.
        tolerates_byzantine: three of ten clients can't drag the result beyond the honest clients' values.
        trusts_agreement: if all clients want the same, that is done; otherwise they are taken for one attacker's.
    """

    rule: Aggregator
    stateful: bool = False
    ignores_num_examples: bool = True
    tolerates_byzantine: bool = True
    trusts_agreement: bool = True


MEAN = {"ignores_num_examples": False, "tolerates_byzantine": False}
ROWS = {
    "fedavg": Row(FedAvg(), **MEAN),
    "uniform": Row(UniformFedAvg(), tolerates_byzantine=False),
    "trimmed-mean": Row(TrimmedMean(trim=0.3)),
    "fedavgm": Row(FedAvgM(), stateful=True, **MEAN),
    "median": Row(CoordinateMedian()),
    "krum": Row(Krum(byzantine=0.3)),
    "multi-krum": Row(MultiKrum(byzantine=0.3)),
    "bulyan": Row(Bulyan(byzantine=0.3)),
    "rfa": Row(GeometricMedian()),
    "foolsgold": Row(FoolsGold(), stateful=True, tolerates_byzantine=False, trusts_agreement=False),
    "norm-clipping": Row(NormClipping(), tolerates_byzantine=False),
    "fltrust": Row(FLTrust()),
    "flame": Row(FLAME(noise=0.0)),
    "spectral": Row(Spectral(byzantine=0.3)),
    "chain": Row(Chain()),
}
every_rule = pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in ROWS.items()])

CLIENTS, SIZE = 10, 12


def updates(deltas: Tensor | None = None, counts: Tensor | None = None) -> Updates:
    """Ten honest clients; the last three of twelve values are buffers. The server's own delta is in the middle."""
    drawn = 1 + 0.1 * torch.randn(CLIENTS, SIZE, generator=generator(0))
    deltas = drawn if deltas is None else deltas
    counts = torch.arange(1, len(deltas) + 1) if counts is None else counts
    own = deltas.nanmedian(0).values if len(deltas) else torch.ones(SIZE)
    return Updates(deltas, counts, tuple(range(len(deltas))), torch.arange(SIZE) < SIZE - 3, own)


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
    if row.trusts_agreement:
        torch.testing.assert_close(delta, same)
    else:
        assert not bool(delta[: SIZE - 3].any())


@every_rule
def test_one_client_is_taken_as_it_is(row: Row) -> None:
    one = torch.randn(1, SIZE, generator=generator(1))
    torch.testing.assert_close(row.rule(updates(one), {})[0], one[0])


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
        given.deltas[order],
        given.num_examples[order],
        tuple(order.tolist()),
        given.parameters,
        given.server_delta,
    )
    torch.testing.assert_close(row.rule(shuffled, {})[0], row.rule(given, {})[0])


@every_rule
def test_only_some_rules_tolerate_a_byzantine_minority(row: Row) -> None:
    given = updates()
    trusted = given.deltas[[0, 2, 3, 5, 6, 7, 9]]
    inside = []
    for factor in (-1e4, 1e4):
        attacked = given.deltas.clone()
        attacked[[1, 4, 8]] *= factor
        delta, _ = row.rule(replace(given, deltas=attacked), {})
        inside.append((delta >= trusted.min(0).values) & (delta <= trusted.max(0).values))
    assert bool(torch.cat(inside).all()) == row.tolerates_byzantine


@every_rule
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf], ids=["nan", "inf", "-inf"])
def test_updates_that_are_not_finite_are_left_out(row: Row, value: float) -> None:
    given = updates()
    deltas, others = given.deltas.clone(), [place for place in range(CLIENTS) if place != 3]
    deltas[3, 5] = value
    delta, _ = row.rule(replace(given, deltas=deltas), {})
    without = Updates(
        given.deltas[others], given.num_examples[others], tuple(others), given.parameters, given.server_delta
    )
    torch.testing.assert_close(delta, row.rule(without, {})[0])
    with pytest.raises(DataError, match="no client's update is finite"):
        row.rule(updates(torch.full((2, SIZE), torch.nan)), {})


@every_rule
@pytest.mark.parametrize("huge", [1e30, -3e38], ids=str)
def test_the_result_is_finite_whatever_a_minority_sends(row: Row, huge: float) -> None:
    given = updates()
    deltas, state = given.deltas.clone(), State()
    deltas[1], deltas[4], deltas[8] = huge, torch.nan, torch.inf
    for _ in range(3):
        delta, state = row.rule(replace(given, deltas=deltas), state)
        assert bool(delta.isfinite().all())
        if not row.stateful:
            assert bool((delta.abs() < 2).all()) == (row.tolerates_byzantine or row.rule == NormClipping())
        if isinstance(row.rule, FedAvgM):
            break  # momentum adds up what it is given


@every_rule
def test_a_client_that_claims_a_billion_examples_does_not_get_the_model(row: Row) -> None:
    given = updates(counts=torch.tensor([10**9] + [100] * (CLIENTS - 1)))
    claimed = row.rule(given, {})[0]
    ten_times = row.rule(replace(given, num_examples=given.num_examples.clamp(max=1000)), {})[0]
    torch.testing.assert_close(claimed, ten_times)


@every_rule
def test_no_clients_are_refused(row: Row) -> None:
    with pytest.raises(DataError, match="one client or more"):
        row.rule(updates(torch.empty(0, SIZE)), {})
