"""Single settings replaced, as ``--set`` does."""

from pathlib import Path

import pytest

from fedmend.errors import ConfigError
from fedmend.federation import changed, parse_config, read_config
from fedmend.local_training import LocalTraining

EVERYTHING = Path(__file__).with_name("everything.toml")

CHANGES = {
    "training.lr=0.5": lambda config: config.training.lr == 0.5,
    " federation.rounds = 9 ": lambda config: config.federation.rounds == 9,
    "seed=8": lambda config: config.seed == 8,
    "data.partition=iid": lambda config: config.data.partition == "iid",
    'data.source = "a = b"': lambda config: config.data.source == "a = b",
    'aggregation={kind = "uniform"}': lambda config: config.aggregation == {"kind": "uniform"},
    "attack.2.first_round=3": lambda config: [each.first_round for each in config.attack] == [2, 3],
    "attack.1.update.1.factor=3.0": lambda config: config.attack[0].update[0]["factor"] == 3.0,
    "attack=[]": lambda config: config.attack == (),
}


@pytest.mark.parametrize("change", CHANGES)
def test_single_settings_can_be_replaced(change: str) -> None:
    assert not CHANGES[change](read_config(EVERYTHING))
    assert CHANGES[change](read_config(EVERYTHING, [change]))


def test_changes_are_made_in_order_and_tables_as_needed() -> None:
    changes = ["training.lr=0.5", "training.epochs=9", "training.lr=0.25"]
    assert parse_config(changed({}, changes)).training == LocalTraining(epochs=9, lr=0.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.lr", "expected a change as name=value"),
        ("=3", "expected a change as name=value"),
        ("training..lr=3", "expected a change as name=value"),
        ("training.lrr=3", r"unknown key \[training\] lrr: did you mean lr"),
        ("training.lr=fast", r"\[training\] lr: .*got 'fast'"),
        ("attack.3.first_round=3", "expected a number from 1 to 2 in place of '3'"),
        ("attack.first.first_round=3", "expected a number from 1 to 2 in place of 'first'"),
        ("attack.first_round=3", "attack is no table"),
        ("seed.lr=3", "seed is no table"),
        ("seed.a.lr=3", "'a' is looked for in a value"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(EVERYTHING, [change])
