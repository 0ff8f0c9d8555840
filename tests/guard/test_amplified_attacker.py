"""An attacker with 0.6 % of the data, whose update is scaled 1,000 times, under size-weighted averaging."""

from collections.abc import Callable

import pytest
import torch
from guarded_nets import net

from fedmend.aggregation import FedAvg, Updates
from fedmend.attacks import Amplify, UpdateContext
from fedmend.guard import Guard
from fedmend.parameters import flatten, unflatten


@pytest.mark.parametrize(("factor", "action"), [(1.0, "accept"), (1000.0, "rollback")])
def test_a_small_client_cannot_get_a_scaled_update_released(
    guard: Callable[..., Guard], factor: float, action: str
) -> None:
    """Unscaled, its backdoor is averaged away; scaled, it is six times as strong as in its own model."""
    honest, backdoored = flatten(net(seed=1).state_dict()), flatten(net(mark=1.0, seed=1).state_dict())
    start = flatten(net().state_dict())
    everything = torch.ones(len(start), dtype=torch.bool)  # the mark, which is a buffer, stands for weights
    step = Amplify(factor)(backdoored - honest, UpdateContext(everything, start, 0))
    deltas = torch.stack([honest - start, honest - start + step])
    updates = Updates(deltas, torch.tensor([994, 6]), (0, 1), everything)
    mean, _ = FedAvg(most=1000.0)(updates, {})  # of two clients, the default would weigh the attacker more
    candidate = unflatten(start + mean, net().state_dict())
    assert float(candidate["mark"]) == pytest.approx(0.006 * factor, rel=1e-3)
    decision = guard().review(candidate, 1)
    assert decision.action == action
    assert decision.released is not None
    assert float(decision.released["mark"]) < 0.01
