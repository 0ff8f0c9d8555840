import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from fedmend.errors import ConfigError
from fedmend.federation import (
    AttackConfig,
    DataConfig,
    FederationConfig,
    ModelConfig,
    SimulationConfig,
    parse_config,
    read_config,
    simulate,
)
from fedmend.local_training import LocalTraining

EVERYTHING = """
seed = 7

[data]
source = "mnist"
partition = "dirichlet"
labels_per_client = 2
alpha = 1

[model]
architecture = "three-conv"
start = "clean.safetensors"
start_round = 4

[training]
epochs = 2
batch_size = 32
optimizer = "sgd"
lr = 0.1
momentum = 0
weight_decay = 1e-4
images_per_epoch = 100
last_conv_l2 = 1e-3
pixel_noise = 0.1

[federation]
clients = 10
clients_per_round = 5
rounds = 8
aggregation = "uniform"
server_lr = 0.5
trim = 0.1

[attack]
kind = "dba"
shape = "H"
color = true
target_class = 3
victim_class = 5
poisoned_share = 1
first_round = 2
every_round = false
amplification = 10
pruning_aware = true
keep_answers = true
liars = 2
training = { epochs = 4 }
"""

TABLES = {
    "data": DataConfig,
    "model": ModelConfig,
    "training": LocalTraining,
    "federation": FederationConfig,
    "attack": AttackConfig,
}


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_setting_is_read(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, EVERYTHING)) == SimulationConfig(
        seed=7,
        data=DataConfig("mnist", "dirichlet", 2, 1.0),
        model=ModelConfig("three-conv", "clean.safetensors", 4),
        training=LocalTraining(2, 32, "sgd", 0.1, 0.0, 1e-4, 100, 0.001, 0.1),
        federation=FederationConfig(10, 5, 8, "uniform", 0.5, 0.1),
        attack=AttackConfig(
            "dba", "H", True, 3, 5, 1.0, 2, False, 10.0, True, True, 2, LocalTraining(epochs=4)
        ),
    )


def test_the_example_above_names_every_setting() -> None:
    for name, table in TABLES.items():
        section = EVERYTHING.split(f"[{name}]")[1].split("\n[")[0]
        for field in fields(table):
            assert f"\n{field.name} = " in section


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, ""))
    assert config == SimulationConfig()
    assert config.attack is None
    assert config.data.source == "fashion-mnist-sample"


def test_settings_survive_json() -> None:
    for config in (SimulationConfig(), SimulationConfig(seed=3, attack=AttackConfig(kind="dba"))):
        assert parse_config(json.loads(json.dumps(config.to_dict()))) == config


def test_attackers_are_the_first_clients() -> None:
    assert AttackConfig(kind="sba").attackers == (0,)
    assert AttackConfig(kind="dba").attackers == (0, 1, 2)


@pytest.mark.parametrize("table", [None, *TABLES])
def test_a_misspelt_key_names_the_right_one(table: str | None) -> None:
    known = [field.name for field in fields(TABLES[table] if table else SimulationConfig)]
    for name in known:
        misspelt = name[0] + name[2:]
        assert misspelt not in known
        with pytest.raises(ConfigError) as caught:
            parse_config({table: {misspelt: 1}} if table else {misspelt: 1})
        assert f"did you mean {name}?" in str(caught.value)
        assert misspelt in str(caught.value)
        assert table is None or f"[{table}]" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"federation": {"epochs": 3}}, "epochs belongs in [training]"),
        ({"training": {"rounds": 3}}, "rounds belongs in [federation]"),
        ({"federation": {"labels_per_client": 3}}, "labels_per_client belongs in [data]"),
        ({"data": {"clients_per_round": 3}}, "clients_per_round belongs in [federation]"),
        ({"model": {"start_rounds": 3}}, "did you mean start_round?"),
        ({"attack": {"start_round": 3}}, "start_round belongs in [model]"),
        ({"federation": {"first_round": 3}}, "first_round belongs in [attack]"),
        ({"lr": 0.1}, "lr belongs in [training]"),
        ({"attack": {"seed": 1}}, "seed belongs at the top"),
        ({"attack": {"qqq": 1}}, "expected one of kind, shape, color"),
        ({"qqq": 1}, "expected one of seed, data, model, training, federation, attack"),
    ],
)
def test_a_key_in_the_wrong_place_names_the_right_place(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("training", "epochs", "3"),
        ("training", "epochs", True),
        ("training", "epochs", 2.5),
        ("training", "epochs", 0),
        ("training", "batch_size", -1),
        ("training", "lr", "0.1"),
        ("training", "lr", True),
        ("training", "lr", 0.0),
        ("training", "lr", float("nan")),
        ("training", "lr", float("inf")),
        ("training", "momentum", 1.0),
        ("training", "momentum", float("nan")),
        ("training", "weight_decay", float("inf")),
        ("training", "weight_decay", -1e-9),
        ("training", "optimizer", "adamw"),
        ("training", "images_per_epoch", 0),
        ("training", "images_per_epoch", 2.5),
        ("training", "last_conv_l2", -1e-9),
        ("training", "last_conv_l2", float("nan")),
        ("training", "pixel_noise", 1.0),
        ("training", "pixel_noise", -0.1),
        ("data", "source", 3),
        ("data", "alpha", 0),
        ("data", "partition", "k_label"),
        ("model", "start", 3),
        ("model", "start_round", -1),
        ("federation", "clients", []),
        ("federation", "server_lr", float("nan")),
        ("attack", "color", "yes"),
        ("attack", "every_round", 1),
        ("attack", "poisoned_share", 0),
        ("attack", "poisoned_share", 1.5),
        ("attack", "poisoned_share", float("nan")),
        ("attack", "first_round", 0),
        ("attack", "amplification", 0.5),
        ("attack", "target_class", -1),
        ("attack", "victim_class", -1),
        ("attack", "victim_class", "3"),
        ("attack", "pruning_aware", 1),
        ("attack", "keep_answers", "yes"),
        ("attack", "liars", -1),
        ("attack", "shape", "X"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_named(table: str, key: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({table: {key: value}})
    assert str(caught.value).startswith(f"[{table}] {key}: ")
    assert f"got {value!r}" in str(caught.value)


def test_an_attackers_own_training_is_checked_as_well() -> None:
    for key, value in (("lr", "0.1"), ("epochs", 0), ("optimizer", "adamw")):
        with pytest.raises(ConfigError) as caught:
            parse_config({"attack": {"training": {key: value}}})
        assert str(caught.value).startswith(f"[attack.training] {key}: ")
        assert f"got {value!r}" in str(caught.value)
    with pytest.raises(ConfigError, match=r"unknown key \[attack.training\] rounds: rounds belongs in"):
        parse_config({"attack": {"training": {"rounds": 3}}})
    config = parse_config({"attack": {"training": {"epochs": 4}}})
    assert config.attack is not None
    assert config.attack.training == LocalTraining(epochs=4)
    assert config.training == LocalTraining()
    assert parse_config(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True, None])
def test_a_seed_is_a_whole_number(seed: object) -> None:
    with pytest.raises(ConfigError, match=r"^seed: "):
        parse_config({"seed": seed})


def test_expected_values_are_written_as_they_must_be() -> None:
    with pytest.raises(ConfigError, match=r"'9px'; got 'h'"):
        parse_config({"attack": {"shape": "h"}})


@pytest.mark.parametrize("settings", [{"data": "mnist"}, {"attack": 3}, {"training": []}])
def test_a_value_where_a_table_is_needed(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=rf"^{name}: .*table") as caught:
        parse_config(settings)
    assert "dataclass" not in str(caught.value)
    assert "instance" not in str(caught.value)


@pytest.mark.parametrize("settings", [[], 3, "text", None, {1: 2}, {"data": {1: 2}}])
def test_what_is_no_table_of_settings_is_refused(settings: Any) -> None:
    with pytest.raises(ConfigError):
        parse_config(settings)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"seed": -1, "data": {"sorce": "mnist"}, "attack": {"kind": "solo"}})
    for part in ("seed: ", "did you mean source?", "[attack] kind: "):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"federation": {"clients": 3, "clients_per_round": 4}},
            "clients_per_round (4) is more than clients (3)",
        ),
        ({"model": {"start": "x", "start_round": 20}}, "must be above [model] start_round (20)"),
        ({"model": {"start_round": 3}}, "start_round needs [model] start"),
        ({"attack": {"kind": "dba"}, "federation": {"clients_per_round": 2}}, "has 3 attackers, more than"),
        ({"attack": {"first_round": 21}}, "first_round (21) is after the last round (20)"),
        (
            {"attack": {"victim_class": 3, "target_class": 3}},
            "victim_class and target_class are both 3; they must differ",
        ),
        ({"attack": {"victim_class": 0}}, "victim_class and target_class are both 0"),
        (
            {"attack": {"kind": "dba", "shape": "1px"}},
            "[attack] shape '1px' is one trigger; kind 'dba' takes",
        ),
        (
            {"attack": {"kind": "dba", "shape": "9px"}},
            "[attack] shape '9px' is one trigger; kind 'dba' takes",
        ),
        ({"attack": {"liars": 21}}, "liars (21) is more than [federation] clients (20)"),
    ],
)
def test_inconsistent_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(settings)
    assert message in str(caught.value)


def test_the_limits_themselves_are_consistent() -> None:
    parse_config({"federation": {"clients": 4, "clients_per_round": 4}})
    parse_config({"model": {"start": "x", "start_round": 19}})
    parse_config({"attack": {"kind": "dba", "first_round": 20}, "federation": {"clients_per_round": 3}})
    parse_config({"attack": {"kind": "sba", "shape": "9px", "victim_class": 1, "liars": 20}})
    parse_config({"attack": {"kind": "dba", "shape": "H", "victim_class": 0, "target_class": 1}})
    parse_config({"training": {"images_per_epoch": 1, "pixel_noise": 0.999, "last_conv_l2": 0}})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match="can't read") as caught:
            read_config(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"seed 7", b"[data\n", b"\xff\xfe\x00", b'seed = "7\n', b"seed=1\nseed=2"]
)
def test_what_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not valid TOML") as caught:
        read_config(path)
    assert str(path) in str(caught.value)


def test_an_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "[training]\nepoch = 3\n")
    with pytest.raises(ConfigError, match=r"unknown key \[training\] epoch: did you mean epochs\?") as caught:
        read_config(path)
    assert str(caught.value).startswith(str(path))


def test_settings_are_frozen_values() -> None:
    config = SimulationConfig()
    assert replace(config, seed=1) != config
    assert hash(config) == hash(SimulationConfig())


def test_a_misspelt_key_of_the_attackers_own_training() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown key \[attack.training\] weight_decy: did you mean weight_decay"
    ):
        parse_config({"attack": {"training": {"weight_decy": 0.1}}})
    with pytest.raises(ConfigError, match=r"training belongs at the top"):
        parse_config({"federation": {"training": {}}})


def test_settings_made_in_python_are_checked_by_the_simulation(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is one trigger"):
        simulate(SimulationConfig(attack=AttackConfig("dba", "1px")), tmp_path / "run")
    assert not (tmp_path / "run").exists()
