import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from fedmend.comparison import Limits, Row, cells_of, compare, plan_from_tables, rows_of
from fedmend.comparison.comparison_plan import COLUMNS
from fedmend.comparison.comparison_tables import as_json, cell_lines, round_lines, table_files


@pytest.fixture(scope="module")
def rows(source: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Row, ...]:
    import tiny_federation

    guard: dict[str, Any] = {"nothing": {}, "guard": {"guard": tiny_federation.GUARD}}
    plan = plan_from_tables(tiny_federation.tables(source) | {"compare": {"a, b": guard}})
    return rows_of(cells_of(plan), compare(plan, tmp_path_factory.mktemp("compared")), plan.limits)


def test_csv_and_parquet_hold_the_same(rows: tuple[Row, ...], tmp_path: Path) -> None:
    files = table_files(rows)
    assert sorted(files) == ["cells.csv", "cells.parquet", "rounds.csv", "rounds.parquet"]
    for name in ("cells", "rounds"):
        text, write = files[f"{name}.csv"], files[f"{name}.parquet"]
        assert isinstance(text, str)
        assert callable(write)
        write(tmp_path / name)
        table = pyarrow.parquet.read_table(tmp_path / name).to_pylist()
        read = list(csv.DictReader(io.StringIO(text)))
        assert [
            {key: "" if value is None else str(value) for key, value in line.items()} for line in table
        ] == read


def test_the_figures(rows: tuple[Row, ...]) -> None:
    nothing, guard = csv.DictReader(io.StringIO(str(table_files(rows)["cells.csv"])))
    assert (nothing["a, b"], nothing["seed"], nothing["decisions"], guard["decisions"]) == (
        "nothing",
        "0",
        "",
        "AR",
    )
    assert float(nothing["honest_accuracy"]) - float(nothing["accuracy"]) == pytest.approx(
        float(nothing["accuracy_lost"])
    )
    lines = list(csv.DictReader(io.StringIO(str(table_files(rows)["rounds.csv"]))))
    assert [line["round"] for line in lines] == ["0", "1", "2"] * 2
    assert lines[2]["asr"] == nothing["released_asr"] == lines[5]["candidate_asr"]


def test_json_says_everything(rows: tuple[Row, ...]) -> None:
    found = json.loads(as_json(rows, Limits()))
    assert found["schema"] == "fedmend-comparison/1"
    assert [each["choices"] for each in found["combinations"]] == [{"a, b": "nothing"}, {"a, b": "guard"}]
    cell = found["combinations"][1]["cells"][0]
    assert cell["settings"]["guard"]["warm_up"] == 1
    assert [each["decision"] for each in cell["rounds"]] == [None, "accept", "rollback"]
    assert found["combinations"][0]["misses"][0] == "released ASR"


def test_no_axis_can_hide_a_column(rows: tuple[Row, ...]) -> None:
    names = {name for lines in (cell_lines(rows), round_lines(rows)) for name in lines[0]} - {"a, b"}
    assert names == set(COLUMNS)


def test_no_cell_no_table() -> None:
    assert table_files(()) == {}
