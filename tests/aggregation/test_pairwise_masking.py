import pytest
import torch

from fedmend.aggregation.pairwise_masking import (
    LEVELS,
    MODULUS,
    MOST_CLIENTS,
    dequantised,
    masked,
    quantised,
    total,
)
from fedmend.errors import ConfigError, DataError

GROUP = (4, 0, 7)
VALUES = {4: torch.tensor([[1, 0, 5]]), 0: torch.tensor([[2, 0, LEVELS]]), 7: torch.tensor([[3, 0, LEVELS]])}


def sent(seed: int = 1) -> dict[int, torch.Tensor]:
    return {number: masked(values, number, GROUP, seed) for number, values in VALUES.items()}


def test_masks_cancel_in_the_sum_whatever_the_order() -> None:
    expected = torch.tensor([[6, 0, 5 + 2 * LEVELS]])
    assert torch.equal(total(sent(), GROUP), expected)
    assert torch.equal(total(sent(), tuple(reversed(GROUP))), expected)


def test_what_a_client_sends_is_spread_over_all_numbers_and_differs_from_sum_to_sum() -> None:
    values = torch.zeros(4000, dtype=torch.int64)
    one, other = (masked(values, 0, (0, 1), seed) for seed in (1, 2))
    assert int(one.min()) >= 0
    assert int(one.max()) < MODULUS
    quarters = (one * 4 // MODULUS).bincount(minlength=4)
    assert int(quarters.min()) > 850
    assert not bool((one == other).any())


def test_a_part_of_the_group_stays_hidden() -> None:
    """Even all but one don't give the sum of these."""
    values = torch.zeros(4000, dtype=torch.int64)
    some = [masked(values, number, GROUP, 1) for number in GROUP[:2]]
    quarters = ((some[0] + some[1]) % MODULUS * 4 // MODULUS).bincount(minlength=4)
    assert int(quarters.min()) > 850


def test_a_client_that_drops_out_spoils_the_sum_and_is_named() -> None:
    replies = sent()
    del replies[7]
    with pytest.raises(DataError, match="client 7 dropped out"):
        total(replies, GROUP)


def test_a_client_that_sends_another_shape_spoils_the_sum() -> None:
    with pytest.raises(DataError, match=r"different shapes, \(1, 2\) and \(1, 3\)"):
        total(sent() | {7: torch.tensor([[1, 2]])}, GROUP)


@pytest.mark.parametrize(
    "group", [(), (1,), (1, 1), range(MOST_CLIENTS + 1)], ids=["none", "one", "twice", "many"]
)
def test_a_sum_over_one_is_refused(group: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="2 to"):
        total({}, group)


def test_floats_come_back_within_the_resolution() -> None:
    vectors = [torch.tensor([0.1, -3.0, 8.0, 0.0]), torch.tensor([0.25, 2.5, 100.0, -float("inf")])]
    summed = dequantised(sum(quantised(vector, 8.0) for vector in vectors), 2, 8.0)
    expected = torch.tensor([0.35, -0.5, 16.0, -8.0], dtype=torch.float64)
    torch.testing.assert_close(summed, expected, atol=2 * 8.0 / LEVELS, rtol=0)


def test_nan_is_refused() -> None:
    with pytest.raises(DataError, match="NaN"):
        quantised(torch.tensor([float("nan")]), 8.0)
