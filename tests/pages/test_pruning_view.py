from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from fedmend.repairs.repair_report import Stage


def test_every_figure_is_shown(made: Any, pruned_page: Any) -> None:
    page = pruned_page(made.pruning(), made.prune_evaluation())
    for wanted in (
        "3 of 6 channels pruned.", "conv2", "No scan has checked", "Few ballots.", "5 min 12 s", "5.0 points",
        "stopped with 3 pruned", "2,000 test images", "attacker’s own trigger", "3 of 6 pruned",
        "1,234 weights beyond 2.75 standard deviations", "10 of 1,234", "Valid ballots 87",
        "Refused ballots 6", "4 refused: ranks out of range", "2 refused: a second ballot of one client",
        "Clients without a ballot 9", "ranking of the channels", "adjust_first yes", "max_drop 0.01",
    ):  # fmt: skip
        assert wanted in page.text, wanted
    assert page.row("Suspect") == ["91.3%", "0", "–", "91.1%", "98.2%"]
    assert page.row("Pruned") == ["90.6%", "864", "–", "90.1%", "41.8%"]
    assert page.row("Extreme weights adjusted those") == ["90.0%", "41", "3", "89.7%", "18.5%"]
    assert page.row("Fine-tuned") == ["91.0%", "0", "–", "90.8%", "9.6%"]
    assert page.row("Extreme weights adjusted again") == ["90.8%", "1,234", "2.75", "90.4%", "2.3%"]
    assert page.row("3 stopped here") == ["90.6%", "41.7%"]
    assert page.row("4") == ["75.1%", "5.2%"]
    weights = [row for row in page.rows if len(row) == 5 and row[2:4] == ["1", "2"]]
    assert weights[:2] == [["0", "30", "1", "2", "0.900"], ["1", "31", "1", "2", "−0.850"]]
    assert len(weights) == 10


def test_without_an_evaluation_its_columns_are_left_out(made: Any, pruned_page: Any) -> None:
    page = pruned_page(made.pruning())
    assert page.row("Pruned") == ["90.6%", "864", "–"]
    assert page.row("3 stopped here") == ["90.6%"]
    assert "nknown to the defender" not in page.text
    assert "ASR" not in page.text
    assert 'class="curve asr' not in page.html


def test_everything_of_the_evaluation_is_marked_as_unknown(made: Any, pruned_page: Any) -> None:
    page = pruned_page(made.pruning(), made.prune_evaluation())
    heads = [row for row in page.rows if any("ASR" in cell or "Test accuracy" in cell for cell in row)]
    assert len(heads) == 2
    assert "unknown to the defender" in heads[0][-1]
    assert page.rows[page.rows.index(heads[1]) - 1][-1] == "Unknown to the defender"
    labels = [a["data-label"] or "" for a in page.all("td") if "data-label" in a]
    assert len([label for label in labels if label.endswith(", unknown to the defender")]) == 2 * len(
        made.STAGES
    )
    assert "Attack success rate (ASR), unknown to the defender" in page.text
    assert (
        "Attack success rate, unknown to the defender: 98.1% with 0, 41.7% with 3, 1.1% with 5." in page.text
    )


def test_each_of_several_attacks_has_its_curve_and_columns(made: Any, pruned_page: Any) -> None:
    along = tuple((0.9 - point / 10, point / 10) for point in range(6))
    evaluation = made.prune_evaluation(asr_along=along, asr=((0.9, 0.1),) * 4 + ((0.75, 0.25),))
    page = pruned_page(made.pruning(), evaluation)
    assert re.findall(r'class="curve asr (dash-\d)"', page.html) == ["dash-0", "dash-1"]
    assert page.row("3 stopped here") == ["90.6%", "60.0%", "30.0%"]
    assert page.row("Fine-tuned")[-3:] == ["90.8%", "90.0%", "10.0%"]
    assert page.row("Extreme weights adjusted again")[-2:] == ["75.0%", "25.0%"]
    for wanted in (
        "Attack success rate (ASR), attack 2, unknown to the defender",
        "each attack’s own trigger",
        "Success rate of attack 2, unknown to the defender: 0.0% with 0, 30.0% with 3, 50.0% with 5.",
    ):
        assert wanted in page.text, wanted
    assert [cell["colspan"] for cell in page.all("th") if "colspan" in cell] == ["3"]


def test_the_chart_has_its_curves_and_a_mark_where_pruning_stopped(made: Any, pruned_page: Any) -> None:
    html = pruned_page(made.pruning(), made.prune_evaluation()).html
    drawn = re.findall(r'points="([^"]*)" class="curve (accuracy|asr dash-0)"', html)
    assert [kind for _, kind in drawn] == ["accuracy", "asr dash-0"]
    assert drawn[0][0].split()[3] == "600.0,93.9"
    assert drawn[1][0].split()[-1] == "1000.0,989.0"
    assert re.search(r'<line x1="60\.000%" x2="60\.000%"[^>]*class="mark stop"', html)
    narrow = made.pruning(
        channels=1,
        sequence=(0,),
        points=(0,),
        accuracies=(0.9,),
        pruned=(),
        stages=made.STAGES[:2],
        extreme=(),
        values=(),
    )
    page = pruned_page(narrow)
    assert 'class="chart-frame' not in page.html
    assert "No channel was pruned." in page.text


def test_pruned_channels_are_told_in_words(made: Any, pruned_page: Any) -> None:
    page = pruned_page(made.pruning())
    assert "0 kept 1 kept 2 kept 3 pruned 4 pruned 5 pruned" in page.text
    many = pruned_page(made.pruning(channels=129))
    assert "3, 4, 5" in many.text
    assert "channels pruned, of 129" in many.text
    assert not many.html.count('<li class="channel')
    assert pruned_page(made.pruning(channels=128)).html.count('<li class="channel') == 128


def test_the_last_adjustment_may_find_nothing_or_not_be_there(made: Any, pruned_page: Any) -> None:
    none = Stage("adjusted", 0.9, 0, 3.0)
    page = pruned_page(made.pruning(stages=(*made.STAGES[:2], none), extreme=(), values=()))
    assert "No weight was beyond 3 standard deviations." in page.text
    assert "The largest of them" not in page.text
    one = replace(none, zeroed=1)
    page = pruned_page(made.pruning(stages=(*made.STAGES[:2], one), extreme=((0, 1, 2, 3),), values=(0.1,)))
    assert "One weight beyond 3 standard deviations" in page.text
    unbounded = replace(none, delta=None)
    page = pruned_page(made.pruning(stages=(*made.STAGES[:2], unbounded), extreme=(), values=()))
    assert "No delta kept the accuracy, so no weight was set to zero." in page.text
    assert (
        "last adjustment" not in pruned_page(made.pruning(stages=made.STAGES[:2], extreme=(), values=())).text
    )


def test_everything_foreign_is_escaped(made: Any, pruned_page: Any) -> None:
    evil = '<script>alert("1")</script>&'
    page = pruned_page(made.pruning(layer=evil, refused={evil: 1}), made.prune_evaluation())
    assert not page.all("script")
    assert page.text.count(evil) >= 3
    assert "&amp;lt;" not in page.html


def test_odd_numbers_do_not_break_the_page(made: Any, pruned_page: Any) -> None:
    nan = float("nan")
    odd = made.pruning(
        accuracies=(nan, 2.0, -1.0, float("inf"), 0.0, 1.0),
        stages=(Stage("suspect", nan, 0), Stage("adjusted", nan, 12, float("inf"))),
        values=(nan, float("-inf"), 1e-5, -1e-5, 1e9, *range(7)),
        pruned=(5, 4, 3, 2, 1, 0),
    )
    page = pruned_page(odd, repair=made.pruned(odd, seconds=nan, accuracy_before=nan, accuracy_after=nan))
    assert not re.search(r"\bnan\b|\binf\b", page.text)
    assert "−0.000010" in page.text


@pytest.mark.parametrize("measured", [False, True])
def test_a_repair_that_adjusts_no_weights_speaks_of_none(made: Any, pruned_page: Any, measured: bool) -> None:
    evaluation = (
        made.prune_evaluation(accuracy=(0.9,) * 3, asr=((0.9,), (0.4,), (0.1,))) if measured else None
    )
    page = pruned_page(made.unadjusted(), evaluation)
    assert page.row("Pruned") == ["90.6%", "864", *(["90.0%", "40.0%"] if measured else [])]
    assert page.row("Fine-tuned")[:2] == ["91.0%", "0"]
    assert "xtreme" not in page.text
    assert "Delta" not in page.text
    assert "standard deviations" not in page.text
    if measured:
        assert [cell["colspan"] for cell in page.all("td") if "colspan" in cell] == ["3"]


def test_a_repair_that_adjusts_weights_says_so(made: Any, pruned_page: Any) -> None:
    page = pruned_page(made.pruning())
    assert "Delta" in page.text
    assert "Extreme weights lie more than delta standard deviations" in page.text


def test_the_pruning_has_a_section_beside_the_repairs(made: Any, shown: Any) -> None:
    page = shown(repair=made.pruned(), prune_evaluation=made.prune_evaluation())
    assert {"#repair", "#pruning"} <= {attributes["href"] for attributes in page.all("a")}
    assert all(attributes.get("scope") for attributes in page.all("th"))
    assert "#pruning" not in {attributes["href"] for attributes in shown(repair=made.repair()).all("a")}
