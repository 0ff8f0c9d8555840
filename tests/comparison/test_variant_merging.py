from typing import Any

import pytest

from fedmend.comparison.variant_merging import merged, nested
from fedmend.errors import ConfigError

BASE = {
    "training": {"lr": 0.1, "epochs": 2},
    "aggregation": {"kind": "trimmed-mean", "trim": 0.1},
    "guard": {"warm_up": 1},
    "attack": [{"attackers": 1, "goal": {"kind": "all-to-one", "target": 3}}, {"attackers": 2}],
}


@pytest.mark.parametrize(
    ("variant", "name", "expected"),
    [
        pytest.param({"training": {"lr": 0.2}}, "training", {"lr": 0.2, "epochs": 2}, id="merged"),
        pytest.param(
            {"aggregation": {"kind": "fedavg"}}, "aggregation", {"kind": "fedavg"}, id="another-kind"
        ),
        pytest.param({"data": {"partition": "iid"}}, "data", {"partition": "iid"}, id="new-table"),
        pytest.param({"guard": "none"}, "guard", None, id="removed"),
        pytest.param({"votes": "none"}, "votes", None, id="removed-though-absent"),
        pytest.param({"model": "none"}, "model", "none", id="not-optional"),
        pytest.param({"guard": {"repair": "none"}}, "guard", {"warm_up": 1, "repair": "none"}, id="no-table"),
        pytest.param({"attack": []}, "attack", [], id="array"),
        pytest.param(
            {"attack": {"2": {"attackers": 5}}},
            "attack",
            [BASE["attack"][0], {"attackers": 5}],
            id="numbered",
        ),
    ],
)
def test_a_variant(variant: dict[str, Any], name: str, expected: Any) -> None:
    before = repr(BASE)
    assert merged(BASE, variant).get(name) == expected
    assert repr(BASE) == before


@pytest.mark.parametrize("number", ["0", "3", "first"])
def test_an_attack_that_is_not_there(number: str) -> None:
    with pytest.raises(ConfigError, match="attack: expected numbers from 1 to 2; got"):
        merged(BASE, {"attack": {number: {"attackers": 5}}})
    with pytest.raises(ConfigError, match="attack: expected no number, since it is empty"):
        merged({"attack": []}, {"attack": {number: {"attackers": 5}}})


def test_a_dotted_name() -> None:
    assert nested("attack.1.attackers", 4) == {"attack": {"1": {"attackers": 4}}}
