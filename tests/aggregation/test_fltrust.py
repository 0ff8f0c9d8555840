from dataclasses import replace

import pytest
import torch

from fedmend.aggregation import FLTrust, Updates
from fedmend.errors import DataError

SERVER = torch.tensor([0.0, 2.0, 7.0])
DELTAS = torch.tensor([[0.0, 10.0, 1.0], [3.0, 4.0, 2.0], [5.0, 0.0, 3.0], [0.0, -9.0, 4.0]])
UPDATES = Updates(DELTAS, torch.ones(4), (0, 1, 2, 3), torch.tensor([True, True, False]), SERVER)


def test_by_hand() -> None:
    # Cosines 1, 0.8, 0 and -1; scaled to the server's norm: (0, 2), (1.2, 1.6). Buffers are the server's.
    expected = torch.tensor([0.8 * 1.2 / 1.8, (2 + 0.8 * 1.6) / 1.8, 7.0])
    torch.testing.assert_close(FLTrust()(UPDATES, {})[0], expected)


def test_if_nobody_is_trusted_parameters_stay() -> None:
    against = replace(UPDATES, deltas=-DELTAS.abs())
    assert FLTrust()(against, {})[0].tolist() == [0, 0, 7]


def test_without_the_servers_update_it_says_what_is_missing() -> None:
    with pytest.raises(DataError, match="none; pass it as server_delta"):
        FLTrust()(replace(UPDATES, server_delta=None), {})
    with pytest.raises(DataError, match=r"server's own delta must be as long as .* \(3,\); got \(2,\)"):
        replace(UPDATES, server_delta=SERVER[:2])


def test_huge_updates_in_double_precision_are_scaled_like_others() -> None:
    deltas = torch.tensor([[0.0, 1.0, 0.0], [1e300, 1e300, 0.0]], dtype=torch.float64)
    delta, _ = FLTrust()(Updates(deltas, torch.ones(2), (0, 1), UPDATES.parameters, SERVER), {})
    assert float(delta[:2].norm()) <= 2 + 1e-9


@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-30])
def test_tiny_updates_are_scaled_like_others(size: float) -> None:
    """In float32 the factor would overflow, and infinity times 0 is NaN: one client could end a federation."""
    tiny = torch.tensor([[0.0, size, 0.0], [0.0, 3.0, 0.0]])
    delta, _ = FLTrust()(Updates(tiny, torch.ones(2), (0, 1), UPDATES.parameters, SERVER), {})
    torch.testing.assert_close(delta, SERVER)
