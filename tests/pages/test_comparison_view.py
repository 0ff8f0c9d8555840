from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from html_page import HtmlPage
from made_comparison import LIMITS, PLAN, result, rows

from fedmend.comparison import Plan, cells_of, rows_of
from fedmend.pages import ComparisonContents, render_comparison


def shown(**parts: Any) -> HtmlPage:
    contents = ComparisonContents("plan", rows(), LIMITS, 10, 10)
    page = HtmlPage(render_comparison(replace(contents, **parts)))
    page.check_ids()
    return page


def test_misses_come_first() -> None:
    page = shown()
    assert "1 of 4 combinations misses a limit" in page.text
    table = page.rows[1:5]
    assert table[0][:3] == ["sba", "nothing", "released ASR and accuracy"]
    assert table[0][3].startswith("91.0% mean 90.5%, 84.1 to 96.9%")
    assert [row[2] for row in table[1:]] == ["–"] * 3
    assert table[0][6].startswith("+10.0")


def test_heat_maps_have_figures_and_frames() -> None:
    page = shown(columns="defence")
    maps = page.rows[5:]
    assert maps[0] == ["attack", "nothing", "guard"]
    assert maps[1:3] == [["sba", "91.0%", "1.0%"], ["<dba>", "1.0%", "1.0%"]]
    assert maps[4] == ["sba", "80.0%", "89.5%"]
    assert page.html.count('class="missed"') == 2
    assert re.findall(r'class="missed" style="--shade: (\d+)%"', page.html) == ["64", "70"]


def test_the_other_axis_across() -> None:
    assert shown(columns="attack").rows[5:7] == [
        ["defence", "sba", "<dba>"],
        ["nothing", "91.0%", "1.0%"],
    ]


def test_curves_tell_variants_apart() -> None:
    page = shown(columns="defence")
    assert re.findall(r'class="curve (line-\d)"', page.html) == ["line-0", "line-1"] * 2
    assert "nothing: 90.5% in round 2" in page.text
    assert [row for row in page.rows if row and row[0] == "<dba>"]


def test_text_is_escaped() -> None:
    assert "<dba>" not in shown().html


def test_unfinished() -> None:
    page = shown(rows=rows(missing=6), done=3)
    assert "1 of 1 combinations misses a limit so far" in page.text
    assert ["sba", "91.0%", ""] in page.rows
    assert "No result yet" in shown(rows=rows(missing=8), done=0).text


def test_one_seed_has_no_interval() -> None:
    page = shown(rows=rows(replace(PLAN, seeds=(0,))))
    assert "to" not in page.rows[1][3]
    assert "seeds" not in page.text


def test_without_axes() -> None:
    plan = Plan({"attack": [{}]}, ())
    (cell,) = cells_of(plan)
    page = shown(rows=rows_of((cell,), {cell.key: result(cell.key, 0.9, 0.5)}, LIMITS))
    assert "All rounds" in page.text
    assert "Heat maps" not in page.text


@pytest.mark.parametrize("columns", [None, "attack"])
def test_no_model_released_is_framed(columns: str | None) -> None:
    cells = cells_of(replace(PLAN, seeds=(0,)))
    results = {cell.key: result(cell.key, None, None) for cell in cells}
    page = shown(rows=rows_of(cells, results, LIMITS), columns=columns)
    assert page.html.count('class="missed"') == 4
    assert "4 of 4 combinations miss a limit" in page.text
