from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fedmend.detection.scan_report import Thresholds
from fedmend.detection.scanning import Evidence, decide, paper_rule
from fedmend.errors import DataError, OutputError
from fedmend.pages import ReportContents, render, write_report
from fedmend.pages.words import duration, flatten, number, percent, pixels

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags balance and collects what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.mark.parametrize(
    ("verdict", "headline"),
    [
        ("backdoored", "Backdoor found"),
        ("clean", "No backdoor found"),
        ("inconclusive", "The scan can’t say"),
    ],
)
def test_each_verdict_in_words(made: Any, verdict: Any, headline: str) -> None:
    page = Page(render(ReportContents("A model", scan=made.scan(verdict))))
    assert headline in page.text
    assert f"Reason for {verdict}." in page.text
    assert ("Backdoor found" in page.text) == (verdict == "backdoored")


def test_everything_is_shown(made: Any) -> None:
    page = Page(render(made.everything()))
    for wanted in (
        "93.1%", "125", "8.1 of 784 px", "30 in 6.4 s", "limit 80%", "limit 50%", "limit 10", "7.1%",
        "fedmend’s rule", "The paper’s own rule", "first attack, round 7", "reference, round 6",
        "suspect, round 12",
        "98.1%", "1.3%", "87.1%", "86.7%", "1.0 points", "Few held-out images.", "Unknown to the defender",
        "distributed attack (DBA)", "data.source", "steering.patience", "2.13.0", "nothing changed any more.",
    ):  # fmt: skip
        assert wanted in page.text, wanted
    assert len(page.all("details")) == 5
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all(attributes.get("scope") for attributes in page.all("th"))


def test_ids_are_unique_and_references_lead_somewhere(made: Any) -> None:
    page = Page(render(made.everything()))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)
        if (link := attributes.get("href") or "").startswith("#"):
            assert link[1:] in ids


def test_charts_are_named_and_described(made: Any) -> None:
    page = Page(render(made.everything()))
    assert len([a for a in page.all("svg") if a.get("role") == "img"]) == 5
    assert len(page.all("desc")) == 5


def test_loads_nothing(made: Any) -> None:
    text = render(made.everything())
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    page = Page(text)
    assert not page.all("script")
    assert all((a["src"] or "").startswith("data:image/png;base64,") for a in page.all("img"))
    assert [a["href"] for a in page.all("link")] == ["data:,"]
    assert not re.search(r"url\((?!data:)", text)


def test_everything_foreign_is_escaped(made: Any) -> None:
    evil = '<script>alert("1")</script>&'
    scan = made.scan(
        names=(evil, "b" * 300),
        reason=evil,
        stop_reason=evil,
        warnings=(evil,),
        settings={evil: evil},
        versions={evil: evil},
    )
    repair = made.repair(outcome="failed", reason=evil, method=evil, settings={evil: evil}, warnings=(evil,))
    text = render(
        ReportContents(evil, scan=scan, repair=repair, attack=made.attack(), settings={evil: [evil]})
    )
    page = Page(text)
    assert not page.all("script")
    assert evil in page.text
    assert "&amp;lt;" not in text


def test_an_attribute_cannot_be_broken_out_of(made: Any) -> None:
    page = Page(render(ReportContents("x", scan=made.scan(names=('" onerror="x', "b")))))
    assert not any("onerror" in attributes for _, attributes in page.tags)


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (3, 224), (2, 30), (4, 30)])
def test_images_of_many_shapes(made: Any, channels: int, side: int) -> None:
    page = Page(render(ReportContents("x", scan=made.scan(channels=channels, side=side, count=10))))
    images = page.all("img")
    assert len(images) == 2 + 2 * 8
    for attributes in images:
        raw = base64.b64decode((attributes["src"] or "").partition(",")[2])
        assert Image.open(io.BytesIO(raw)).size == (side, side)


def test_stamped_examples_are_the_triggers_own(made: Any) -> None:
    scan = made.scan(count=1)
    images = Page(render(ReportContents("x", scan=scan))).all("img")
    raw = base64.b64decode((images[-1]["src"] or "").partition(",")[2])
    shown = torch.tensor(list(Image.open(io.BytesIO(raw)).tobytes())).reshape(1, 1, 28, 28)
    expected = (scan.trigger.apply(scan.examples.images.float() / 255) * 255).round()
    assert torch.equal(shown, expected.long())


def test_a_thousand_classes_and_a_class_without_a_name(made: Any) -> None:
    names = tuple(f"class number {index}" for index in range(1000))
    assert "class number 999" in render(ReportContents("x", scan=made.scan(names=names, target_class=999)))
    assert "class 12" in render(ReportContents("x", scan=made.scan(names=("a", "b"), target_class=12)))


def test_a_patch_that_fools_the_reference_too_speaks_against(made: Any) -> None:
    scan = made.scan("clean", reasr=0.97, mse=40.0, reference_agreement=0.98, paper_verdict="backdoored")
    page = Page(render(ReportContents("x", scan=scan)))
    assert "the reference is fooled too. Speaks against a backdoor." in page.text
    assert "The rules disagree here." in page.text


def test_low_agreement_says_nothing_where_the_suspect_is_not_fooled(made: Any) -> None:
    page = Page(render(ReportContents("x", scan=made.scan("clean"))))
    assert "Speaks for a backdoor" not in page.text


@pytest.mark.parametrize(
    ("control", "finding"),
    [
        (0.0, "only the suspect can be fooled so. Speaks for a backdoor."),
        (0.49, "only the suspect can be fooled so. Speaks for a backdoor."),
        (0.5, "the models differ both ways, which takes no backdoor."),
    ],
)
def test_the_control_is_shown_where_there_was_one(made: Any, control: float, finding: str) -> None:
    page = Page(render(ReportContents("x", scan=made.scan(control_reasr=control)))).text
    assert "The other way round (control)" in page
    assert f"{control:.1%}" in page
    assert finding in page
    assert "Four measurements" in page
    without = Page(render(ReportContents("x", scan=made.scan()))).text
    assert "The other way round" not in without
    assert "Three measurements" in without


@pytest.mark.parametrize("mse", [10.0, 10.1])
@pytest.mark.parametrize("reasr", [0.8, 0.81])
@pytest.mark.parametrize("agreement", [0.49, 0.5])
def test_findings_at_the_limits_say_what_the_rules_say(
    made: Any, mse: float, reasr: float, agreement: float
) -> None:
    evidence = Evidence(
        mse=mse,
        reasr=reasr,
        reference_agreement=agreement,
        reference_accuracy=0.9,
        mask_share=0.01,
        num_classes=3,
        converged=True,
    )
    paper = paper_rule(evidence, Thresholds())
    verdict, _ = decide(evidence, Thresholds(), "cat")
    scan = made.scan(verdict, mse=mse, reasr=reasr, reference_agreement=agreement, paper_verdict=paper)
    found = Page(render(ReportContents("x", scan=scan))).text
    assert (found.count("Above the limit. Speaks for a backdoor.") == 2) == (paper == "backdoored")
    assert (found.count("Speaks for a backdoor.") == 3) == (verdict == "backdoored")


def test_odd_numbers_do_not_break_the_page(made: Any) -> None:
    nan = float("nan")
    scan = made.scan("inconclusive", mse=nan, reasr=nan, loss_curve=(nan, float("inf")), count=0)
    page = Page(render(ReportContents("x", scan=scan)))
    assert "Not measured" in page.text
    assert "nan" not in page.text
    for mse in (0.0, 1e-12, 1e12, float("inf")):
        Page(render(ReportContents("x", scan=made.scan(mse=mse, loss_curve=(1.0, 1.0)))))


def test_missing_parts_leave_their_sections_out(made: Any) -> None:
    everything = made.everything()
    assert "Not scanned yet" in render(ReportContents("x", rounds=everything.rounds))
    Page(render(ReportContents("only a title")))
    Page(render(ReportContents("x", rounds=(made.record(1),))))
    Page(render(ReportContents("x", rounds=(made.record(1, asr=None), made.record(2, asr=None)))))
    for part in ("scan", "repair", "attack"):
        Page(render(replace(everything, **{part: None})))
        Page(render(ReportContents("x", **{part: getattr(everything, part)})))


def test_a_repair_that_was_not_needed_or_failed(made: Any) -> None:
    idle = made.repair(outcome="not needed", passes=0, verdict_after=None)
    page = Page(render(ReportContents("x", scan=made.scan("clean"), repair=idle)))
    assert "No repair needed" in page.text
    assert "not scanned again" in page.text
    failed = made.repair(outcome="failed", verdict_after="backdoored")
    page = Page(render(ReportContents("x", repair=failed)))
    assert "Repair failed" in page.text
    assert "not scanned again" not in page.text


def test_examples_of_another_shape_than_the_trigger_are_an_error(made: Any) -> None:
    with pytest.raises(DataError, match="this trigger is for images"):
        render(ReportContents("x", scan=made.scan(trigger=made.trigger(3, 32))))


def test_written_whole_or_not_at_all(made: Any, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(path, made.everything())
    assert path.read_text(encoding="utf-8") == render(made.everything())
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(OutputError):
        write_report(path / "below.html", made.everything())


def test_numbers_in_words() -> None:
    assert [percent(value) for value in (0.931, 1.0, 0.0, None)] == ["93.1%", "100.0%", "0.0%", "–"]
    assert [number(v) for v in (12345.6, 125.4, 12.54, 1.254, 0.0125, 1e-9, 0.0, 10.0)] == [
        "12,346", "125", "12.5", "1.25", "0.013", "<0.001", "0", "10",
    ]  # fmt: skip
    assert [duration(v) for v in (6.43, 9.99, 59.7, 192.0, 3900.0)] == [
        "6.4 s", "10 s", "1 min 0 s", "3 min 12 s", "1 h 5 min",
    ]  # fmt: skip
    assert [pixels(v) for v in (7.0, 6.194)] == ["7", "6.2"]
    assert dict(flatten({"a": {"b": 0.1, "c": None}, "d": [1, 2], "e": True, "f": {}})) == {
        "a.b": "0.1", "a.c": "none", "d": "1, 2", "e": "yes", "f": "none",
    }  # fmt: skip
