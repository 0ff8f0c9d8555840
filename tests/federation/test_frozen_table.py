import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest

from fedmend.federation import AttackConfig, SimulationConfig, parse_config
from fedmend.federation.frozen_table import FrozenTable, plain

GOAL = {"kind": "several", "pairs": [[0, 1], [2, 3]]}


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.__setitem__("kind", "nonsense"),
        lambda table: table.__delitem__("kind"),
        lambda table: table.__ior__({"kind": "nonsense"}),
        lambda table: table.update(kind="nonsense"),
        lambda table: table.setdefault("other", 1),
        lambda table: table.pop("kind"),
        lambda table: table.popitem(),
        lambda table: table.clear(),
    ],
)
@pytest.mark.parametrize(
    "table",
    [
        SimulationConfig().aggregation,
        SimulationConfig(aggregation={"kind": "uniform"}).aggregation,
        AttackConfig().goal,
        AttackConfig().trigger,
        AttackConfig(update=({"kind": "amplify", "factor": 2.0},)).update[0],
    ],
    ids=str,
)
def test_a_checked_table_can_not_be_changed(table: dict[str, Any], change: Callable[[Any], Any]) -> None:
    before = plain(table)
    with pytest.raises(TypeError, match="make new settings"):
        change(table)
    assert table == before


def test_what_the_table_was_made_from_is_copied() -> None:
    given = copy.deepcopy(GOAL)
    config = AttackConfig(goal=given)
    given["pairs"][0][1] = 7  # type: ignore[index]
    given["kind"] = "nonsense"
    assert config.goal == {"kind": "several", "pairs": ((0, 1), (2, 3))}


@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        lambda config: pickle.loads(pickle.dumps(config)),
        lambda config: replace(config, seed=config.seed),
        lambda config: parse_config(json.loads(json.dumps(config.to_dict()))),
        lambda config: parse_config(asdict(config)),
    ],
)
def test_settings_with_tables_are_copied_sent_and_written(again: Callable[[Any], Any]) -> None:
    config = SimulationConfig(attack=(AttackConfig(goal=GOAL),))
    other = again(config)
    assert other == config
    assert isinstance(other.attack[0].goal, FrozenTable)
    assert isinstance(other.aggregation, FrozenTable)


def test_plain_values_belong_to_the_caller() -> None:
    config = SimulationConfig(attack=(AttackConfig(goal=GOAL),))
    values = config.to_dict()
    values["attack"][0]["goal"]["pairs"][0][1] = 7
    values["aggregation"]["kind"] = "nonsense"
    assert config.attack[0].goal == FrozenTable(GOAL)
    assert config.aggregation == {"kind": "fedavg"}
