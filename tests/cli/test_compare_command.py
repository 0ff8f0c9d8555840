"""``fedmend compare``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmend.cli import compare_command
from fedmend.errors import DataError

BASE = """
[data]
source = '{source}'
[training]
epochs = 1
images_per_epoch = 32
[federation]
clients = 3
clients_per_round = 2
rounds = 1
[[attack]]
"""
SWEEP = """
[compare]
honest = false
[compare.rule.mean]
[compare.rule.trimmed.aggregation]
kind = "trimmed-mean"
trim = 0.4
"""


@pytest.fixture
def plan(fewer_images: str, tmp_path: Path, write_toml: Callable[[Path, str], str]) -> Callable[..., str]:
    def make(sweep: str = SWEEP, base: str = BASE) -> str:
        return write_toml(tmp_path / "plan.toml", base.format(source=fewer_images) + sweep)

    return make


def test_results_as_page_json_csv_and_parquet(run: Any, plan: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["compare", plan(), "--out", str(out), "--workers", "1"]
    result = run(words)
    assert result.code == 0, result.err
    assert re.match(r"2 federations, 2 combinations: (none|\d) missed a limit\n", result.out)
    assert result.out.endswith(f"Report: {out / 'comparison.html'}\n")
    names = {path.name for path in out.iterdir()}
    assert {"comparison.html", "comparison.json", "cells.csv", "cells.parquet", "rounds.csv"} <= names
    found = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert [each["choices"] for each in found["combinations"]] == [{"rule": "mean"}, {"rule": "trimmed"}]

    before = (out / "cells.csv").read_bytes()
    assert "already holds a comparison" in run(words).err
    assert run([*words, "--resume"]).code == 0
    assert (out / "cells.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        pytest.param("", r"expected a table \[compare\]", id="no-table"),
        pytest.param("[compare]\nseed = [1]", "did you mean seeds", id="misspelt"),
        pytest.param(
            "[compare.settings]\ntraining.lr = []", "at least one value; got an empty list", id="empty"
        ),
        pytest.param("[compare.settings]\ntraining.lrr = [1]", "unknown key .training. lrr", id="setting"),
        pytest.param("[compare.rule.krumm.aggregation]\nkind = 'fedavgg'", "did you mean fedavg", id="kind"),
        pytest.param("[compare", "not valid TOML", id="toml"),
    ],
)
def test_bad_plans(refused: Any, plan: Any, tmp_path: Path, sweep: str, message: str) -> None:
    refused(["compare", plan(sweep), "--out", str(tmp_path / "out")], message)
    assert not (tmp_path / "out").exists()


def test_a_changed_plan_is_named(run: Any, refused: Any, plan: Any, tmp_path: Path) -> None:
    words = ["compare", plan(), "--out", str(tmp_path / "out"), "--workers", "1", "--resume"]
    assert run(words).code == 0
    plan(base=BASE.replace("epochs = 1", "epochs = 2"))
    refused(words, "training.epochs was 1, now 2; more seeds, values and variants may be added")


def test_a_federation_that_fails_is_shown_and_is_an_error(
    run: Any, plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise DataError("no such <images>")

    monkeypatch.setattr("fedmend.comparison.cell_runs.simulate", fail)
    result = run(["compare", plan(), "--out", str(tmp_path / "out"), "--workers", "1"])
    assert (result.code, result.err) == (2, "fedmend: 2 of 2 federations failed: no such <images>\n")
    assert "no such &lt;images&gt;" in (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")


def test_text_from_the_plan_cannot_move_the_cursor(run: Any, plan: Any, tmp_path: Path) -> None:
    sweep = '[compare]\nhonest = false\nlimits.released_asr = 0.0\n[compare."a\\u001b[2Jb"."c\\u202ed"]\n'
    result = run(["compare", plan(sweep), "--out", str(tmp_path / "out"), "--workers", "1"])
    assert result.code == 0
    assert "\x1b" not in result.out
    assert "\u202e" not in result.out


def test_the_summary_names_the_worst_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    rows: Any = tuple(
        SimpleNamespace(
            choices={"attack": f"a{number}"},
            misses=("released ASR",) if number else (),
            released_asr=SimpleNamespace(largest=number / 10),
        )
        for number in range(8)
    )
    lines = compare_command.summary(rows, {}).splitlines()
    assert lines[0] == "0 federations, 8 combinations: 7 missed a limit"
    assert lines[1] == "  attack a7: released ASR (released ASR at most 70.0%)"
    assert lines[-1] == "  and 2 more"
