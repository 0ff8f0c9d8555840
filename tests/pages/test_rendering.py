from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmend.detection.provenance import ArchitectureRecord, DataRecord, FileRecord, Provenance
from fedmend.errors import DataError, OutputError
from fedmend.pages import PageContents, render, write_page

EVIL = '<script>alert("1")</script>&'


@pytest.fixture
def full(made: Any) -> PageContents:
    """Every section, with several findings and attacks."""
    other = made.finding("clean", detector="other", targets=())
    return made.everything(
        scan=made.scan(findings=(made.finding(), other)),
        repair=made.pruned(),
        prune_evaluation=made.prune_evaluation(),
        attacks=(made.attack(), made.attack(patch=None)),
        attacked_rounds=made.attacked_rounds(attacks=2),
    )


def test_everything_is_shown(made: Any, shown: Any) -> None:
    page = shown(made.everything())
    for wanted in (
        "93.1%", "125", "8.1 of 784 px", "Images 30 Time 7.1 s", "limit 80%", "limit 50%", "limit 10", "7.1%",
        "90.0% for the suspect and 86.7% for the reference",
        "first attack, round 7", "reference, round 6", "suspect, round 12",
        "98.1%", "1.3%", "87.1%", "86.7%", "1.0 points", "Few held-out images.", "Unknown to the defender",
        "patch: shape +, parts 4", "all-to-one: all other classes → cat", "Attackers 2", "kind amplify, factor 4",
        "data.source", "steering.patience", "2.13.0", "nothing changed any more.", "Searched in half precision.",
    ):  # fmt: skip
        assert wanted in page.text, wanted
    assert len(page.all("details")) == 7
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all(attributes.get("scope") for attributes in page.all("th"))


def test_ids_are_unique_and_references_lead_somewhere(full: PageContents, shown: Any) -> None:
    page = shown(full)
    page.check_ids()
    links = [a["href"] for a in page.all("a")]
    assert links[:2] == ["#finding-1", "#finding-2"]
    assert {"#federation", "#repair", "#pruning", "#attack", "#settings"} <= set(links)


def test_charts_are_named_and_described(full: PageContents, shown: Any) -> None:
    page = shown(full)
    charts = [a for a in page.all("svg") if a.get("role") == "img"]
    assert len(charts) == 2 * 4 + 2  # three measures and a loss for each finding, the rounds and the pruning
    assert len(page.all("desc")) == len(page.all("title")) - 1 == len(charts)


def test_loads_nothing(full: PageContents, shown: Any) -> None:
    page = shown(full)
    assert not re.search(r"https?://|@import|url\((?!data:)", page.html)
    assert not page.all("script")
    assert all((a["src"] or "").startswith("data:image/png;base64,") for a in page.all("img"))
    assert [a["href"] for a in page.all("link")] == ["data:,"]
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_everything_foreign_is_escaped(made: Any, shown: Any) -> None:
    words = ("reason", "stop_reason", "detector")
    finding = made.finding(
        **dict.fromkeys(words, EVIL),
        measures=(made.measure(name=EVIL, explanation=EVIL, reading=EVIL, key=EVIL),),
        warnings=(EVIL,),
        notes=(EVIL,),
        settings={EVIL: EVIL},
    )
    page = shown(
        PageContents(
            EVIL,
            scan=made.scan_of(
                finding,
                reason=EVIL,
                class_names=(EVIL, "b" * 300),
                versions={EVIL: EVIL},
                warnings=(EVIL,),
                examples=(made.examples(EVIL),),
            ),
            repair=made.repair(
                outcome="failed", reason=EVIL, method=EVIL, settings={EVIL: EVIL}, warnings=(EVIL,)
            ),
            attacks=(made.attack(trigger={"kind": EVIL}, goal={EVIL: EVIL}, attackers=EVIL),),
            settings={EVIL: [EVIL]},
        )
    )
    assert not page.all("script")
    assert page.text.count(EVIL) >= 20
    assert "&amp;lt;" not in page.html


def test_an_attribute_cannot_be_broken_out_of(made: Any, shown: Any) -> None:
    names = ('" onerror="x', "' onerror='x", "b")
    page = shown(scan=made.scan(class_names=names, findings=(made.finding(detector='" onerror="x'),)))
    assert not any("onerror" in attributes for _, attributes in page.tags)


def test_provenance_is_shown(made: Any) -> None:
    made_of = Provenance(
        command=("scan", "<evil>.pt", "--data", "two words"),
        suspect=FileRecord("<evil>.pt", "0a1b", 7),
        reference=None,
        architecture=ArchitectureRecord("convnet", {"width": 2}, "fedmend.models.conv_net", "2c3d"),
        data=DataRecord("two words", "test", {}, None, 40, "4e5f", (11, 23), "6a7b"),
    )
    text = render(PageContents("x", scan=made.scan(date="2026-01-02T03:04:05+00:00", provenance=made_of)))
    for shown in (
        "2026-01-02T03:04:05",
        "0a1b",
        "2c3d",
        "4e5f",
        "6a7b",
        "11, 23",
        "architecture.arguments.width",
    ):
        assert shown in text
    assert "<evil>" not in text
    assert "&#39;&lt;evil&gt;.pt&#39; --data &#39;two words&#39;" in text


@pytest.mark.parametrize(
    "missing", ["scan", "repair", "rounds", "attacks", "attacked_rounds", "evaluation", "settings"]
)
def test_a_missing_part_leaves_its_section_out(made: Any, shown: Any, missing: str) -> None:
    everything = made.everything()
    empty = getattr(PageContents("x"), missing)
    shown(replace(everything, **{missing: empty})).check_ids()
    shown(PageContents("x", **{missing: getattr(everything, missing)})).check_ids()


def test_without_results_it_says_so(made: Any, shown: Any) -> None:
    assert "Not scanned yet" in shown(PageContents("only a title")).text
    assert "Not scanned yet" in shown(rounds=made.rounds()).text
    assert "Not scanned yet" not in shown(scan=made.scan()).text


def test_each_warning_is_told_once_at_the_top(made: Any, shown: Any) -> None:
    finding = made.finding(warnings=("Few images.", "Odd labels."))
    page = shown(scan=made.scan_of(finding, warnings=("Few images.",)), repair=made.repair())
    assert "3 warnings Few images. Odd labels. Few held-out images." in page.text
    assert page.text.count("Few images.") == 1


def test_written_whole_or_not_at_all(made: Any, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_page(path, made.everything())
    assert path.read_text(encoding="utf-8") == render(made.everything())
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(OutputError):
        write_page(path / "below.html", made.everything())


def test_examples_of_another_shape_than_the_trigger_are_an_error(made: Any) -> None:
    with pytest.raises(DataError, match="this trigger is for images"):
        render(PageContents("x", scan=made.scan(examples=(made.examples(channels=3, side=32),))))
