from typing import Any

import pytest
import torch

from fedmend.aggregation import Chain, CoordinateMedian, Spectral, Updates, aggregator_from_table
from fedmend.errors import ConfigError

DELTAS = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, -2.0]])
UPDATES = Updates(DELTAS, torch.ones(3), (0, 1, 2), torch.tensor([True, True]))


def test_clip_then_median_by_hand() -> None:
    # Clipped to the median norm, 2: (1.2, 1.6), (0, 1), (0, -2).
    assert Chain()(UPDATES, {})[0].tolist() == [0, 1]
    low = aggregator_from_table({"kind": "chain", "before": [{"kind": "clip", "limit": 0.5}]})
    torch.testing.assert_close(low(UPDATES, {})[0], torch.tensor([0.0, 0.4]))


def test_steps_follow_each_other() -> None:
    deltas = 1 + 0.1 * torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    deltas[2] += 1e8
    updates = Updates(deltas, torch.ones(10), tuple(range(10)), torch.ones(6, dtype=torch.bool))
    chain = Chain(
        before=({"kind": "spectral", "byzantine": 0.1}, {"kind": "clip", "limit": 1e9}),
        rule={"kind": "median"},
    )
    expected = CoordinateMedian()(Spectral(0.1).prepare(updates), {})
    assert torch.equal(chain(updates, {})[0], expected[0])


def test_the_state_is_the_rules() -> None:
    rule = Chain(rule={"kind": "fedavgm"})
    _, state = rule(UPDATES, {})
    assert set(state) == {"velocity"}
    assert not torch.equal(rule(UPDATES, state)[0], rule(UPDATES, {})[0])


def test_it_needs_the_root_images_of_its_rule() -> None:
    assert Chain(rule={"kind": "fltrust", "root_images": 7}).root_images == 7
    assert Chain().root_images is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"before": [{"kind": "clipp"}]}, r"no step before an aggregation rule 'clipp'; did you mean clip\?"),
        ({"before": [{"kind": "clip", "limit": -1.0}]}, "limit"),
        ({"before": [{"kind": "median"}]}, "expected clip, multi-krum"),
        ({"rule": {"kind": "medan"}}, r"did you mean median\?"),
        ({"before": {"kind": "clip"}}, "before"),
        ({"rule": {}}, "expected a kind"),
    ],
    ids=lambda value: None if isinstance(value, dict) else "",
)
def test_bad_tables_are_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        aggregator_from_table({"kind": "chain", **table})


def test_a_step_of_ones_own_is_made_only_when_it_is_needed() -> None:
    chain = Chain(before=({"kind": "not_there:Step"},))
    with pytest.raises(ConfigError, match="not_there"):
        chain(UPDATES, {})
    with pytest.raises(ConfigError, match=r"must have a method prepare\(updates\); got a int"):
        Chain(before=({"kind": "builtins:int"},))(UPDATES, {})
