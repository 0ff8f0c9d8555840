from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from fedmend.prune import PruneReport, Stage
from fedmend.report import PruneEvaluation, ReportContents, render


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
    assert "last adjustment" not in Section(made.pruning(stages=made.STAGES[:2], extreme=(), values=())).text


def test_without_a_scan_the_pruning_is_the_headline(made: Any) -> None:
    page = Section(made.pruning())
    assert '<section class="verdict plain"' in page.html
    assert "Outcome of the repair Pruned 3 of 6 channels pruned." in page.text
    assert page.text.count("nor whether that is gone") == 2
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
