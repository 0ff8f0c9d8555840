from pathlib import Path
from typing import Any

import pytest

from fedmend.comparison import cells_of, plan_from_tables, read_plan
from fedmend.errors import ConfigError

GUARD = {"guard": {"guard": {"warm_up": 1}}, "nothing": {}}


def test_axes_in_order_and_every_combination(tables: Any) -> None:
    plan = plan_from_tables(
        tables(
            seeds=[3, 4], defence=GUARD, settings={"training": {"lr": [0.1, 0.2]}, "data.partition": ["iid"]}
        )
    )
    assert [axis.name for axis in plan.axes] == ["defence", "training.lr", "data.partition"]
    assert plan.columns == "defence"
    cells = cells_of(plan)
    assert len(cells) == 2 * 2 * 2
    assert cells[0].choices == {"defence": "guard", "training.lr": "0.1", "data.partition": "iid"}
    assert [cell.config.seed for cell in cells[:3]] == [3, 4, 3]
    assert [cell.config.guard is None for cell in cells] == [False] * 4 + [True] * 4
    assert [cell.config.training.lr for cell in cells[:4]] == [0.1, 0.1, 0.2, 0.2]


def test_labels_of_tables_and_lists(tables: Any) -> None:
    values = {
        "aggregation": [{"kind": "trimmed-mean", "trim": 0.1}, {"kind": "fedavg"}],
        "model.mean": [[0.5]],
    }
    plan = plan_from_tables(tables(settings=values))
    assert [list(axis.variants) for axis in plan.axes] == [["trimmed-mean, trim 0.1", "fedavg"], ["0.5"]]


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        pytest.param({"seed": [1]}, r"unknown key \[compare\] seed: did you mean seeds\?", id="misspelt"),
        pytest.param({"setings": {}}, r"did you mean settings\?", id="misspelt-table"),
        pytest.param({"workers": 3}, r"workers: expected one of seeds, settings", id="unknown"),
        pytest.param({"seeds": []}, "expected a list of at least one number", id="no-seeds"),
        pytest.param({"seeds": [1, 1]}, "expected different values; got '1' twice", id="same-seeds"),
        pytest.param({"seeds": [-1]}, r"\[compare\] seeds: input should be greater", id="negative"),
        pytest.param({"attack": {}}, r"\[compare.attack\]: expected at least one variant", id="no-variants"),
        pytest.param({"attack": {"dba": [1]}}, r"\[compare.attack\] dba: expected a table", id="no-table"),
        pytest.param(
            {"settings": {"training": {"lr": []}}}, "training.lr: expected at least one", id="empty"
        ),
        pytest.param({"settings": {"training": {"lr": 1}}}, "training.lr: expected a list", id="no-list"),
        pytest.param({"limits": {"asr": 0.1}}, r"unknown key \[compare.limits\] asr", id="limit"),
        pytest.param(
            {"limits": {"released_asr": 2.0}}, "released_asr: input should be less", id="limit-range"
        ),
        pytest.param(
            {"columns": "attack"}, "columns: expected the name of an axis, one of none", id="columns"
        ),
        pytest.param(
            {"attack": {"dba": {"seed": 3}}}, r"\[compare.attack.dba\] seed: .* \[compare\] seeds", id="seed"
        ),
        pytest.param({"rounds": {"few": {}}}, "rounds is a column of the results", id="column"),
        pytest.param(
            {"a.b": {"x": {}}, "settings": {"a": {"b": [1]}}},
            "axes: expected different values",
            id="same-axis",
        ),
        pytest.param({"honest": 1}, r"\[compare\] honest", id="flag"),
    ],
)
def test_what_is_refused(tables: Any, compare: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_from_tables(tables(**compare))


def test_without_the_table(tables: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected a table \[compare\]"):
        plan_from_tables({"seed": 1})
    with pytest.raises(ConfigError, match="both given"):
        plan_from_tables({"seed": 1, "compare": {"seeds": [1]}})
    assert plan_from_tables({"seed": 7, "compare": {}}).seeds == (7,)


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        pytest.param(
            {"settings": {"training": {"lt": [1]}}}, "training.lt 1: unknown key .training. lt", id="setting"
        ),
        pytest.param(
            {"settings": {"attack.2.attackers": [1]}}, "attack: expected numbers from 1 to 1", id="attack"
        ),
        pytest.param({"d": {"g": {"guard": {"warmup": 1}}}}, "d g: .*did you mean warm_up", id="guard"),
        pytest.param(
            {"d": {"v": {"votes": {"rounds": 1}}}}, r"d v: unknown key \[votes\] rounds", id="votes"
        ),
        pytest.param(
            {"defence": GUARD, "settings": {"guard.warm_up": [1, 2]}},
            r"defence nothing, guard.warm_up 1: defence nothing has no \[guard\], and another axis adds one",
            id="guard-that-comes-back",
        ),
        pytest.param(
            {
                "more": {"votes": {"votes": {}}},
                "settings": {"votes.fine_tuning_rounds": [1], "votes.vote": ["x"]},
            },
            r"votes.vote x: \[votes\] vote: input should be",
            id="votes-that-stay",
        ),
    ],
)
def test_a_combination_that_is_refused_is_named(tables: Any, compare: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cells_of(plan_from_tables(tables(**compare)))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't read"):
        read_plan(tmp_path / "absent.toml")
    (tmp_path / "a.toml").write_text("[compare", encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_plan(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_text("seed = 1", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"b.toml: expected a table \[compare\]"):
        read_plan(tmp_path / "b.toml")
