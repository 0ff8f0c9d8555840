"""Settings from TOML: all of them are read, and what is wrong is named with its place."""

from dataclasses import fields
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
)
from fedmend.local_training import LocalTraining

EVERYTHING = Path(__file__).with_name("everything.toml")

TABLES: dict[str, type] = {
    "data": DataConfig,
    "model": ModelConfig,
    "training": LocalTraining,
    "federation": FederationConfig,
    "attack": AttackConfig,
}


def nested(table: str | None, key: str, value: object) -> dict[str, Any]:
    if table is None:
        return {key: value}
    return {table: [{key: value}] if table == "attack" else {key: value}}


def heading(table: str) -> str:
    return "[[attack]]" if table == "attack" else f"[{table}]"


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(settings)
    return str(caught.value)


def test_every_setting_is_read() -> None:
    first = AttackConfig(
        attackers=3,
        chosen="most-source-images",
        first_round=2,
        last_round=6,
        every_round=False,
        poisoned_fraction=1.0,
        distributed=True,
        keep_predictions=True,
        pruning_aware=True,
        lying_clients=2,
        trigger={"kind": "atoms", "shape": "H", "color": True},
        goal={"kind": "one-to-one", "source": 5, "target": 3},
        poisoning={"kind": "clean-label", "epsilon": 0.1},
        method={"kind": "neurotoxin", "fraction": 0.1},
        collusion={"kind": "a-little-is-enough", "backdoor": True},
        update=({"kind": "amplify", "factor": 10.0},),
        training=LocalTraining(epochs=4),
    )
    second = AttackConfig(trigger={"kind": "mine:make"}, update=({"kind": "mine:step", "size": 3},))
    assert read_config(EVERYTHING) == SimulationConfig(
        seed=7,
        data=DataConfig("mnist", "dirichlet", 2, 1.0),
        model=ModelConfig(
            "three-conv", "clean.safetensors", 4, {"width": 8, "act": "gelu"}, (0.5,), (0.3081,)
        ),
        training=LocalTraining(2, 32, "sgd", 0.1, 0.0, 1e-4, 100, 0.001, 0.1),
        federation=FederationConfig(10, 5, 8, 0.5),
        aggregation={"kind": "trimmed-mean", "trim": 0.1},
        attack=(first, second),
    )


def test_the_example_above_names_every_setting() -> None:
    for name, table in TABLES.items():
        section = EVERYTHING.read_text(encoding="utf-8").split(heading(name))[1].split("\n[")[0]
        for field in fields(table):
            assert f"\n{field.name} = " in section


@pytest.mark.parametrize("table", [None, *TABLES])
def test_a_misspelt_key_names_the_right_one(table: str | None) -> None:
    known = [field.name for field in fields(TABLES[table] if table else SimulationConfig)]
    for name in known:
        misspelt = name[0] + name[2:]
        assert misspelt not in known
        told = refusal(nested(table, misspelt, 1))
        assert f"did you mean {name}?" in told
        assert misspelt in told
        assert table is None or heading(table) in told


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"federation": {"epochs": 3}}, "epochs belongs in [training]"),
        ({"training": {"rounds": 3}}, "rounds belongs in [federation]"),
        ({"federation": {"labels_per_client": 3}}, "labels_per_client belongs in [data]"),
        ({"data": {"clients_per_round": 3}}, "clients_per_round belongs in [federation]"),
        ({"model": {"start_rounds": 3}}, "did you mean start_round?"),
        ({"attack": [{"start_round": 3}]}, "start_round belongs in [model]"),
        ({"federation": {"first_round": 3}}, "first_round belongs in [[attack]]"),
        ({"federation": {"trim": 0.1}}, "trim belongs in [aggregation]"),
        ({"federation": {"aggregation": "uniform"}}, "aggregation belongs at the top, as a table"),
        ({"attack": [{"factor": 3}]}, "factor belongs in [[attack.update]]"),
        ({"attack": [{"shape": "+"}]}, "shape belongs in [attack.trigger]"),
        ({"attack": [{"target": 3}]}, "target belongs in [attack.goal]"),
        ({"lr": 0.1}, "lr belongs in [training]"),
        ({"attack": [{"seed": 1}]}, "seed belongs at the top, before any table"),
        ({"attack": [{"qqq": 1}]}, "expected one of attackers, chosen, first_round"),
        ({"qqq": 1}, "expected one of seed, data, model, training, federation, aggregation, guard, attack"),
        ({"federation": {"training": {}}}, "training belongs at the top, as a table"),
        (
            {"attack": [{}, {"training": {"rounds": 3}}]},
            "unknown key [attack.training] rounds: rounds belongs in [federation]",
        ),
        (
            {"attack": [{"training": {"weight_decy": 0.1}}]},
            "unknown key [attack.training] weight_decy: did you mean weight_decay",
        ),
    ],
)
def test_a_key_in_the_wrong_place_names_the_right_place(settings: dict[str, Any], message: str) -> None:
    assert message in refusal(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"aggregation": {"kind": "trimmed"}},
            "[aggregation] there is no aggregation rule 'trimmed'; did you mean",
        ),
        ({"aggregation": {"kind": "trimmed-mean", "tri": 1}}, "unknown key tri: did you mean trim?"),
        ({"aggregation": {"kind": "trimmed-mean", "trim": 0.5}}, "[aggregation] TrimmedMean: trim: "),
        ({"aggregation": {"trim": 0.1}}, "[aggregation] expected a kind; got None"),
        (
            {"attack": [{"trigger": {"kind": "atom"}}]},
            "[attack.trigger] there is no trigger 'atom'; did you",
        ),
        (
            {"attack": [{"goal": {"kind": "one-to-one", "source": 1}}]},
            "OneToOne: target: a value is required",
        ),
        (
            {"attack": [{"update": [{"kind": "amplify", "factor": 0.5}]}]},
            "[[attack.update]] Amplify: factor: ",
        ),
        ({"attack": [{"update": [{"factor": 2.0}]}]}, "[[attack.update]] expected a kind; got None"),
        (
            {"attack": [{"update": [{"kind": "amplify", "factor": 2.0}, {}]}]},
            "[[attack.update]] number 2 expected a kind; got None",
        ),
        ({"attack": {"first_round": 2}}, "attack: expected an array of tables, [[attack]]"),
        (
            {"attack": [{"update": {"kind": "amplify"}}]},
            "[[attack]] update: expected an array of tables, [[attack.update]]",
        ),
    ],
)
def test_what_is_wrong_with_a_kind_is_told_with_its_table(settings: dict[str, Any], message: str) -> None:
    assert message in refusal(settings)


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("training", "epochs", "3"),
        ("training", "epochs", True),
        ("training", "epochs", 2.5),
        ("training", "batch_size", -1),
        ("training", "lr", float("nan")),
        ("training", "momentum", 1.0),
        ("training", "optimizer", "adamw"),
        ("data", "source", 3),
        ("data", "alpha", 0),
        ("data", "partition", "k_label"),
        ("model", "start", 3),
        ("model", "start_round", -1),
        ("federation", "clients", []),
        ("federation", "server_lr", float("nan")),
        ("attack", "attackers", 0),
        ("attack", "chosen", "last"),
        ("attack", "every_round", 1),
        ("attack", "poisoned_fraction", 0),
        ("attack", "poisoned_fraction", 1.5),
        ("attack", "poisoned_fraction", float("nan")),
        ("attack", "first_round", 0),
        ("attack", "distributed", "yes"),
        ("attack", "pruning_aware", 1),
        ("attack", "keep_predictions", "yes"),
        ("attack", "lying_clients", -1),
        ("attack", "trigger", "atoms"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_named(table: str, key: str, value: object) -> None:
    told = refusal(nested(table, key, value))
    assert told.startswith(f"{heading(table)} {key}: ")
    assert f"got {value!r}" in told


def test_an_attackers_own_training_is_checked_as_well() -> None:
    for key, value in (("lr", "0.1"), ("epochs", 0), ("optimizer", "adamw")):
        told = refusal({"attack": [{}, {"training": {key: value}}]})
        assert told.startswith(f"[attack.training] {key}: ")
        assert f"got {value!r}" in told


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True, None])
def test_a_seed_is_a_whole_number(seed: object) -> None:
    assert refusal({"seed": seed}).startswith("seed: ")


@pytest.mark.parametrize(
    "settings", [{"data": "mnist"}, {"attack": [3]}, {"training": []}, {"aggregation": 3}]
)
def test_a_value_where_a_table_is_needed(settings: dict[str, Any]) -> None:
    (name,) = settings
    told = refusal(settings)
    assert told.startswith(f"{name}: expected a table")
    assert "dataclass" not in told
    assert "instance" not in told


@pytest.mark.parametrize("settings", [[], 3, "text", None, {1: 2}, {"data": {1: 2}}])
def test_what_is_no_table_of_settings_is_refused(settings: Any) -> None:
    refusal(settings)


def test_all_problems_are_told_at_once() -> None:
    told = refusal({"seed": -1, "data": {"sorce": "mnist"}, "attack": [{"chosen": "last"}]})
    for part in ("seed: ", "did you mean source?", "[[attack]] chosen: "):
        assert part in told


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
