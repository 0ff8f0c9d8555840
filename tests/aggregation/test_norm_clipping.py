from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fedmend.aggregation import Clip, NormClipping, State, Updates
from fedmend.aggregation.norm_clipping import clipping_factors
from fedmend.errors import ConfigError

DELTAS = torch.tensor([[3.0, 4.0, 9.0], [0.0, 1.0, 6.0], [0.0, -2.0, 30.0]])
UPDATES = Updates(DELTAS, torch.tensor([1, 5, 9]), (0, 1, 2), torch.tensor([True, True, False]))


def test_factors_by_hand() -> None:
    norms = torch.tensor([5.0, 1.0, 2.0, 0.0], dtype=torch.float64)
    assert clipping_factors(norms, 2.5).tolist() == [0.5, 1, 1, 1]
    assert clipping_factors(norms[:3], None).tolist() == [0.4, 1, 1]
    assert clipping_factors(norms[3:], None).tolist() == [0]


def test_the_mean_of_clipped_updates_by_hand() -> None:
    # Clipped to 2: (1.2, 1.6), (0, 1), (0, -2); the buffers' median is 9.
    delta, state = NormClipping()(UPDATES, {})
    torch.testing.assert_close(delta, torch.tensor([0.4, 0.2, 9.0]))
    assert state == {}
    delta, _ = NormClipping(limit=1.0)(UPDATES, {})
    torch.testing.assert_close(delta, torch.tensor([0.2, 0.8 / 3, 9.0]))


class NewStorages(TorchDispatchMode):
    """Notes the storages of at least so many bytes that operations make or use."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least, self.seen = least, set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.untyped_storage().nbytes() >= self.least:
            self.seen.add(result.untyped_storage().data_ptr())
        return result


@pytest.mark.parametrize("damaged", [(), (3,)], ids=["all finite", "one infinite"])
def test_clipping_makes_one_copy(damaged: tuple[int, ...]) -> None:
    deltas = torch.randn(20, 500, generator=torch.Generator().manual_seed(0))
    for client in damaged:
        deltas[client] = torch.inf
    kept = [client for client in range(20) if client not in damaged]
    before, parameters = deltas.clone(), torch.arange(500) < 400
    with NewStorages(len(kept) * 500 * 4) as storages:
        clipped = Clip(limit=2.0).prepare(Updates(deltas, torch.ones(20), tuple(range(20)), parameters))
    assert len(storages.seen - {deltas.untyped_storage().data_ptr()}) == 1
    assert torch.equal(deltas, before)
    factors = (2 / deltas[kept, :400].double().norm(dim=1)).float()
    torch.testing.assert_close(clipped.deltas[:, :400], deltas[kept, :400] * factors[:, None])
    assert torch.equal(clipped.deltas[:, 400:], deltas[kept, 400:])


def test_before_another_rule_buffers_stay() -> None:
    clipped = Clip().prepare(UPDATES)
    torch.testing.assert_close(
        clipped.deltas, torch.tensor([[1.2, 1.6, 9.0], [0.0, 1.0, 6.0], [0.0, -2.0, 30.0]])
    )
    assert UPDATES.deltas is DELTAS
    damaged = DELTAS.clone()
    damaged[0, 0] = torch.nan
    kept = Clip().prepare(Updates(damaged, UPDATES.num_examples, (7, 8, 9), UPDATES.parameters))
    assert (kept.client_ids, kept.num_examples.tolist()) == ((8, 9), [5, 9])


def test_noise_has_its_deviation_spares_buffers_and_differs_from_round_to_round() -> None:
    size = 20_000
    updates = Updates(torch.zeros(2, size), torch.ones(2), (0, 1), torch.arange(size) < size - 1)
    rule, state, seen = NormClipping(noise=0.1, seed=3), State(), []
    for _ in range(2):
        delta, state = rule(updates, state)
        seen.append(delta)
        assert float(delta[:-1].std()) == pytest.approx(0.1, rel=0.02)
        assert float(delta[-1]) == 0
    assert not torch.equal(*seen)
    assert torch.equal(rule(updates, {})[0], seen[0])
    assert not torch.equal(NormClipping(noise=0.1, seed=4)(updates, {})[0], seen[0])


@pytest.mark.parametrize("values", [{"limit": 0.0}, {"noise": -1.0}, {"limit": float("inf")}])
def test_settings_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="NormClipping: "):
        NormClipping(**values)
