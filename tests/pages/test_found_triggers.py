from __future__ import annotations

import re
from typing import Any

import pytest
from html_page import HtmlPage


def found_rows(page: HtmlPage) -> list[list[str]]:
    return [row for row in page.rows if len(row) == 4 and "→" in row[0]]


def test_the_strongest_trigger_between_two_classes_is_a_row(made: Any, pruned_page: Any) -> None:
    page = pruned_page(
        made.pruning(
            triggers=(
                made.found(3, 1, 0.4, client=2),
                made.found(9, 7, 0.6, client=4, pixels=((20, 20),)),
                made.found(9, 7, 0.97, client=2),
                made.found(9, 7, 0.5, client=2),
                made.found(7, 9, 0.2, client=1, pixels=((0, 6),)),
            )
        )
    )
    assert found_rows(page) == [
        ["class 9 → class 7", "97.0%", "2", "3 pixels rows 2–4 columns 3–5"],
        ["class 3 → class 1", "40.0%", "1", "3 pixels rows 2–4 columns 3–5"],
        ["class 7 → class 9", "20.0%", "1", "1 pixel row 0 column 6"],
    ]
    assert "pairs of classes" not in page.text


def test_of_equal_rates_the_one_that_more_clients_report_is_first(made: Any, pruned_page: Any) -> None:
    found = (made.found(1, 2), made.found(3, 2, client=1), made.found(3, 2, client=2))
    rows = found_rows(pruned_page(made.pruning(triggers=found)))
    assert [(row[0], row[2]) for row in rows] == [("class 3 → class 2", "2"), ("class 1 → class 2", "1")]


def test_at_most_ten_are_shown(made: Any, pruned_page: Any) -> None:
    page = pruned_page(
        made.pruning(triggers=tuple(made.found(index, 0, index / 13) for index in range(1, 13)))
    )
    assert [row[0] for row in found_rows(page)] == [f"class {index} → class 0" for index in range(12, 2, -1)]
    assert "The strongest 10 of 12 pairs of classes." in page.text
    assert page.html.count("<mark>") == 2


def test_a_picture_shows_each_pixel_in_its_place(made: Any, pruned_page: Any) -> None:
    page = pruned_page(made.pruning(triggers=(made.found(), made.found(3, 1, 0.4, pixels=((6, 0),)))))
    drawn = re.findall(r'<svg class="pixels( telling)?" viewBox="0 0 (\d+) (\d+)" .*?</svg>', page.html)
    assert drawn == [(" telling", "7", "7"), ("", "7", "7")]
    places = re.findall(r'<rect x="(\d+)" y="(\d+)" width="1" height="1">', page.html)
    assert places == [("3", "2"), ("5", "2"), ("3", "4"), ("0", "6")]
    assert 'aria-label="3 pixels: row 2, column 3; row 2, column 5; row 4, column 3"' in page.html


@pytest.mark.parametrize(
    ("rate", "images", "said"),
    [
        (0.8, 500, "3 pixels send 80.0% of class 9 to class 7. This suggests a backdoor with the target class 7."),
        (
            1.0,
            0,
            "Clients claim that 3 pixels send 100.0% of class 9 to class 7. If true, this suggests a backdoor with "
            "the target class 7.",
        ),
        (
            0.79,
            500,
            "No trigger of at most 8 pixels that clients found sends 80% of a class to another; larger ones do so in "
            "honest models, too.",
        ),
    ],
)  # fmt: skip
def test_what_the_strongest_speaks_for(
    made: Any, pruned_page: Any, rate: float, images: int, said: str
) -> None:
    page = pruned_page(made.pruning(triggers=(made.found(rate=rate),), num_validation=images))
    assert said in page.text
    assert ('class="say bad"' in page.html) == (rate >= 0.8)
    assert (
        "are typical of a backdoor; in honest models, fractions of up to two thirds were observed."
        in page.text
    )
    assert ("measured on the server’s 500 validation images" in page.text) == (images > 0)
    assert ("The fractions are what the clients claim" in page.text) == (images == 0)


def test_without_triggers_there_is_no_such_part(made: Any, pruned_page: Any) -> None:
    page = pruned_page(made.pruning())
    assert "Triggers that clients found" not in page.text
    assert not found_rows(page)
    assert "Triggers that clients found" in pruned_page(made.pruning(triggers=(made.found(),))).text


def test_classes_have_the_scans_names_where_it_knows_them(made: Any, pruned_page: Any) -> None:
    report = made.pruning(triggers=(made.found(1, 2), made.found(0, 7, 0.1)))
    names = ("cat", "<b>dog</b>", "owl")
    page = pruned_page(report, scan=made.scan(class_names=names))
    assert [row[0] for row in found_rows(page)] == ["<b>dog</b> → owl", "cat → class 7"]
    assert "of <b>dog</b> to owl" in page.text


def test_a_faint_pattern_or_a_pixel_far_away_does_not_break_the_page(made: Any, pruned_page: Any) -> None:
    page = pruned_page(
        made.pruning(triggers=(made.found(pixels=()), made.found(1, 2, 0.3, pixels=((10**12, 0),))))
    )
    assert found_rows(page)[0][-1] == "a faint pattern over the whole image"
    assert found_rows(page)[1][-1] == "1 pixel row 1000000000000 column 0"
    assert 'viewBox="0 0 1 1"' in pruned_page(made.pruning(triggers=(made.found(pixels=()),))).html
