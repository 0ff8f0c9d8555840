from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from fedmend.pages import PruneEvaluation, ReportContents, render
from fedmend.repairs.vote_pruning import PruneReport, Stage


class Section(HTMLParser):
    """A page's words and tags, and the cells of its tables row by row."""

    def __init__(self, report: PruneReport, measured: PruneEvaluation | None = None, **more: Any) -> None:
        super().__init__()
        self.html = render(ReportContents("x", pruning=report, prune_evaluation=measured, **more))
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self._cell = self._style = False
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        self._cell &= tag not in ("td", "th")
        self._style &= tag != "style"

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.words.append(data)
        if self._cell:
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data}".strip()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]

    def row(self, head: str) -> list[str]:
        return next(row[1:] for row in self.rows if row and " ".join(row[0].split()).startswith(head))


def test_every_figure_is_shown(made: Any) -> None:
    page = Section(made.pruning(), made.prune_evaluation())
    for wanted in (
        "3 of 6 channels pruned.", "conv2", "No scan is behind", "Few ballots.", "5 min 12 s", "5.0 points",
        "stopped with 3 pruned", "2,000 test images", "attacker’s own trigger", "3 of 6 pruned",
        "1,234 weights beyond 2.75 standard deviations", "10 of 1,234", "Ballots that count 87",
        "Ballots refused 6", "4 refused: ranks out of range", "2 refused: a second ballot of one client",
        "Clients that sent nothing 9", "ranking of the channels", "adjust_first yes", "max_drop 0.01",
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


def test_without_an_evaluation_its_columns_are_left_out(made: Any) -> None:
    page = Section(made.pruning())
    assert page.row("Pruned") == ["90.6%", "864", "–"]
    assert page.row("3 stopped here") == ["90.6%"]
    assert "nknown to the defender" not in page.text
    assert "ASR" not in page.text
    assert 'class="curve asr"' not in page.html


def test_everything_of_the_evaluation_is_marked_as_unknown(made: Any) -> None:
    page = Section(made.pruning(), made.prune_evaluation())
    heads = [row for row in page.rows if any("ASR" in cell or "Test accuracy" in cell for cell in row)]
    assert len(heads) == 2
    assert "unknown to the defender" in heads[0][-1]
    assert page.rows[page.rows.index(heads[1]) - 1][-1] == "Unknown to the defender"
    labels = [a["data-label"] or "" for a in page.all("td") if "data-label" in a]
    assert len([label for label in labels if label.endswith(", unknown to the defender")]) == 2 * len(
        made.STAGES
    )
    assert "Attack success (ASR), unknown to the defender" in page.text
    assert "Attack success, unknown to the defender: 98.1% with 0, 41.7% with 3, 1.1% with 5." in page.text


def test_the_chart_has_its_curves_and_a_mark_where_pruning_stopped(made: Any) -> None:
    html = Section(made.pruning(), made.prune_evaluation()).html
    drawn = re.findall(r'points="([^"]*)" class="curve (accuracy|asr)"', html)
    assert [kind for _, kind in drawn] == ["accuracy", "asr"]
    assert drawn[0][0].split()[3] == "600.0,93.9"
    assert drawn[1][0].split()[-1] == "1000.0,989.0"
    assert re.search(r'<line x1="60\.000%" x2="60\.000%"[^>]*class="mark stop"', html)
    narrow = made.pruning(
        1,
        sequence=(0,),
        points=(0,),
        accuracies=(0.9,),
        pruned=(),
        stages=made.STAGES[:2],
        extreme=(),
        values=(),
    )
    page = Section(narrow)
    assert 'class="chart-frame' not in page.html
    assert "No channel was pruned." in page.text


def test_pruned_channels_are_told_in_words(made: Any) -> None:
    page = Section(made.pruning())
    assert "0 kept 1 kept 2 kept 3 pruned 4 pruned 5 pruned" in page.text
    many = Section(made.pruning(129))
    assert "3, 4, 5" in many.text
    assert "channels pruned, of 129" in many.text
    assert not many.html.count('<li class="channel')
    assert Section(made.pruning(128)).html.count('<li class="channel') == 128


def test_the_last_adjustment_may_find_nothing_or_not_be_there(made: Any) -> None:
    none = Stage("adjusted", 0.9, 0, 3.0)
    page = Section(made.pruning(stages=(*made.STAGES[:2], none), extreme=(), values=()))
    assert "No weight was beyond 3 standard deviations." in page.text
    assert "The largest of them" not in page.text
    one = replace(none, zeroed=1)
    page = Section(made.pruning(stages=(*made.STAGES[:2], one), extreme=((0, 1, 2, 3),), values=(0.1,)))
    assert "One weight beyond 3 standard deviations" in page.text
    unbounded = replace(none, delta=None)
    page = Section(made.pruning(stages=(*made.STAGES[:2], unbounded), extreme=(), values=()))
    assert "No delta that was tried kept the accuracy, so no weight was set to zero." in page.text
    assert "last adjustment" not in Section(made.pruning(stages=made.STAGES[:2], extreme=(), values=())).text


def test_without_a_scan_the_pruning_is_the_headline(made: Any) -> None:
    page = Section(made.pruning())
    assert '<section class="verdict plain"' in page.html
    assert "Outcome of the repair Pruned 3 of 6 channels pruned." in page.text
    assert page.text.count("nor on whether that is gone") == 2
    assert "90.8% from 91.3%" in page.text
    assert "Not scanned yet" not in page.text
    failed = Section(made.pruning(outcome="failed", reason="Too much was lost."))
    assert '<section class="verdict bad"' in failed.html
    assert "Pruning failed Too much was lost." in failed.text


def test_with_a_scan_or_an_unlearning_repair_theirs_is_the_headline(made: Any) -> None:
    page = Section(made.pruning(), scan=made.scan())
    assert "Backdoor found Reason for backdoored." in page.text
    assert "Pruning pruned" in page.text
    page = Section(made.pruning(), repair=made.repair())
    assert "Outcome of the repair Repaired" in page.text
    assert "Few held-out images. Few ballots." in page.text


def test_on_a_page_with_everything_ids_are_unique_and_references_lead_somewhere(made: Any) -> None:
    everything = {key: value for key, value in vars(made.everything()).items() if value and key != "title"}
    page = Section(made.pruning(), made.prune_evaluation(), **everything)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)
        if (link := attributes.get("href") or "").startswith("#"):
            assert link[1:] in ids
    assert "#pruning" in [attributes["href"] for attributes in page.all("a")]
    assert all(attributes.get("scope") for attributes in page.all("th"))


def test_everything_foreign_is_escaped(made: Any) -> None:
    evil = '<script>alert("1")</script>&'
    hostile = made.pruning(
        reason=evil, layer=evil, refused={evil: 1}, settings={evil: evil}, warnings=(evil,), outcome="failed"
    )
    page = Section(hostile, made.prune_evaluation())
    assert not page.all("script")
    assert page.text.count(evil) >= 6
    assert "&amp;lt;" not in page.html


def test_odd_numbers_do_not_break_the_page(made: Any) -> None:
    nan = float("nan")
    odd = made.pruning(
        accuracies=(nan, 2.0, -1.0, float("inf"), 0.0, 1.0),
        stages=(Stage("suspect", nan, 0), Stage("adjusted", nan, 12, float("inf"))),
        values=(nan, float("-inf"), 1e-5, -1e-5, 1e9, *range(7)),
        seconds=nan,
        pruned=(5, 4, 3, 2, 1, 0),
    )
    page = Section(odd)
    assert not re.search(r"\bnan\b|\binf\b", page.text)
    assert "−0.000010" in page.text


def found_rows(page: Section) -> list[list[str]]:
    return [[" ".join(cell.split()) for cell in row] for row in page.rows if len(row) == 4 and "→" in row[0]]


def test_the_strongest_trigger_between_two_classes_is_a_row(made: Any) -> None:
    page = Section(
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


def test_of_equal_rates_the_one_that_more_clients_report_is_first(made: Any) -> None:
    report = made.pruning(triggers=(made.found(1, 2), made.found(3, 2, client=1), made.found(3, 2, client=2)))
    assert [(move.best.source_class, move.clients) for move in report.moves] == [(3, 2), (1, 1)]
    assert [move.telling for move in report.moves] == [True, True]
    assert made.pruning().moves == ()


def test_at_most_ten_are_shown(made: Any) -> None:
    page = Section(made.pruning(triggers=tuple(made.found(index, 0, index / 13) for index in range(1, 13))))
    assert [row[0] for row in found_rows(page)] == [f"class {index} → class 0" for index in range(12, 2, -1)]
    assert "The strongest 10 of 12 pairs of classes." in page.text
    assert page.html.count("<mark>") == 2


def test_a_picture_shows_each_pixel_in_its_place(made: Any) -> None:
    page = Section(made.pruning(triggers=(made.found(), made.found(3, 1, 0.4, pixels=((6, 0),)))))
    drawn = re.findall(r'<svg class="pixels( telling)?" viewBox="0 0 (\d+) (\d+)" .*?</svg>', page.html)
    assert drawn == [(" telling", "7", "7"), ("", "7", "7")]
    places = re.findall(r'<rect x="(\d+)" y="(\d+)" width="1" height="1">', page.html)
    assert places == [("3", "2"), ("5", "2"), ("3", "4"), ("0", "6")]
    assert 'aria-label="3 pixels: row 2, column 3; row 2, column 5; row 4, column 3"' in page.html


@pytest.mark.parametrize(
    ("rate", "images", "said"),
    [
        (0.8, 500, "3 pixels move 80.0% of class 9 to class 7. This speaks for a backdoor with the target class 7."),
        (
            1.0,
            0,
            "Clients claim that 3 pixels move 100.0% of class 9 to class 7. If so, this speaks for a backdoor with "
            "the target class 7.",
        ),
        (0.79, 500, "No trigger of a few pixels that clients found moves 80% of a class: the strongest moves 79.0%."),
    ],
)  # fmt: skip
def test_what_the_strongest_speaks_for(made: Any, rate: float, images: int, said: str) -> None:
    page = Section(made.pruning(triggers=(made.found(rate=rate),), validation_images=images))
    assert said in page.text
    assert ('class="say bad"' in page.html) == (rate >= 0.8)
    assert "are what a backdoor looks like; honest models were seen to reach two thirds." in page.text
    assert ("measured on the server’s 500 validation images" in page.text) == (images > 0)
    assert ("The shares are what the clients claim" in page.text) == (images == 0)


def test_without_triggers_there_is_no_such_part(made: Any) -> None:
    page = Section(made.pruning())
    assert "Triggers that clients found" not in page.text
    assert not found_rows(page)
    assert "Triggers that clients found" in Section(made.pruning(triggers=(made.found(),))).text


def test_classes_have_the_scans_names_where_it_knows_them(made: Any) -> None:
    report = made.pruning(triggers=(made.found(1, 2), made.found(0, 7, 0.1)))
    names = ("cat", "<b>dog</b>", "owl")
    page = Section(report, scan=made.scan(names=names))
    assert [row[0] for row in found_rows(page)] == ["<b>dog</b> → owl", "cat → class 7"]
    assert "of <b>dog</b> to owl" in page.text


def test_a_trigger_of_no_pixels_or_far_away_does_not_break_the_page(made: Any) -> None:
    page = Section(
        made.pruning(triggers=(made.found(pixels=()), made.found(1, 2, 0.3, pixels=((10**12, 0),))))
    )
    assert found_rows(page)[0][-1] == "no pixels"
    assert found_rows(page)[1][-1] == "1 pixel row 1000000000000 column 0"
    assert 'viewBox="0 0 1 1"' in Section(made.pruning(triggers=(made.found(pixels=()),))).html


def test_triggers_are_read_as_written(made: Any) -> None:
    report = made.pruning(triggers=(made.found(), made.found(pixels=())))
    assert PruneReport.from_json(report.to_json()) == report


@pytest.mark.parametrize("measured", [False, True])
def test_a_repair_that_adjusts_no_weights_speaks_of_none(made: Any, measured: bool) -> None:
    evaluation = made.prune_evaluation(accuracy=(0.9,) * 3, asr=(0.9, 0.4, 0.1)) if measured else None
    page = Section(made.unadjusted(), measured=evaluation)
    assert page.row("Pruned") == ["90.6%", "864", *(["90.0%", "40.0%"] if measured else [])]
    assert page.row("Fine-tuned")[:2] == ["91.0%", "0"]
    assert "xtreme" not in page.text
    assert "Delta" not in page.text
    assert "standard deviations" not in page.text
    assert "without the channels that the clients voted out." in page.text
    if measured:
        assert [cell["colspan"] for cell in page.all("td") if "colspan" in cell] == ["3"]


def test_a_repair_that_adjusts_weights_says_so(made: Any) -> None:
    page = Section(made.pruning())
    assert "the clients voted out and without its extreme weights." in page.text
    assert "Delta" in page.text
    assert "Extreme are weights further than delta standard deviations" in page.text
