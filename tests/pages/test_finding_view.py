from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from fedmend.detection.base import Covered, Target
from fedmend.pages.finding_view import MAX_PICTURED, finding_views
from fedmend.pages.pictures import photo
from fedmend.triggers import Addition

NAN, INF = float("nan"), float("inf")

# name, changes of the finding, changes of the scan, what must be on the page, what must not
SHAPES: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, ...], tuple[str, ...]]] = [
    (
        "as usual", {}, {},
        ("Recovered trigger", "all other classes → cat", "1 further trigger", "Examples"), ("Targets",),
    ),
    (
        "nothing but a verdict",
        {
            "measures": (), "targets": (), "loss_curve": (), "stop_reason": "", "notes": (), "settings": {},
            "limit": NAN,
        },
        {"examples": (), "suspect_accuracy": None, "reference_accuracy": None, "class_names": ()},
        ("Suspicious 0.93 Limit –", "Images 30"),
        ("Measures", "Target", "Search", "How it was", "Success", "Patch size", "Accuracy on"),
    ),
    (
        "target without trigger", {"targets": (Target(2, 0.5, (0, 1)),)}, {},
        ("Target source and", "cat, dog → owl", "50.0% success"), ("Recovered trigger", "Patch size", "Examples"),
    ),
    (
        "several targets", {"targets": (Target(1, 0.9), Target(2, 0.8, (0,)), Target(0, 0.7))}, {},
        ("Targets", "cat → owl", "dog and 2 more"), ("Recovered trigger",),
    ),
    (
        "a class without a name", {"targets": (Target(12, 0.9, (7,)),)}, {},
        ("class 7 → class 12",), ("class 0",),
    ),
    ("no reference", {}, {"reference_accuracy": None}, ("scan images: 90.0% for the suspect.",), ("for the ref",)),
    ("no limit", {"limit": NAN}, {}, ("Limit –",), ()),
    (
        "odd numbers",
        {"suspicious": NAN, "limit": INF, "seconds": NAN, "loss_curve": (NAN, INF), "targets": (Target(0, NAN),)}, {},
        ("Suspicious – Limit ∞",), ("Loss of the search",),
    ),
    ("no loss", {"loss_curve": ()}, {}, ("Stopped: nothing changed",), ("loss by step",)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("finding", "scan", "there", "absent"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES]
)
def test_findings_of_every_shape(
    made: Any,
    shown: Any,
    finding: dict[str, Any],
    scan: dict[str, Any],
    there: tuple[str, ...],
    absent: tuple[str, ...],
) -> None:
    page = shown(scan=made.scan_of(made.finding(**finding), **scan))
    page.check_ids()
    for words in there:
        assert words in page.text, words
    for words in absent:
        assert words not in page.text, words
    assert not {"nan", "inf", "None"} & set(page.text.replace("%", " ").split())


@pytest.mark.parametrize("verdict", ["backdoored", "clean", "inconclusive"])
def test_only_the_records_say_what_the_numbers_mean(made: Any, shown: Any, verdict: Any) -> None:
    """The same words and tones for any values: nothing on a page compares a value with its limit."""
    texts, tones = set(), set()
    for value in (0.111, 0.499, 0.777):
        measure = made.measure(value=value, limit=0.5, reading="As the record says.", tone="innocent")
        page = shown(
            scan=made.scan_of(made.finding(verdict, suspicious=1.0, measures=(measure,), targets=()))
        )
        texts.add(page.text.replace(f"{value:.1%}", ""))
        tones.add(tuple(a["class"] for a in page.all("circle") if "dot" in (a.get("class") or "")))
    assert len(texts) == 1
    assert tones == {("dot good",)}


@pytest.mark.parametrize(
    ("changes", "value", "chart", "limit"),
    [
        ({}, "93.1%", True, "suspicious above 80%"),
        ({"suspicious_when": "below", "limit": 0.025}, "93.1%", True, "suspicious below 2.5%"),
        ({"scale": "log", "value": 125.4, "limit": 10.0}, "125", True, "suspicious above 10"),
        ({"scale": "plain", "value": 8.1, "limit": 9.0}, "8.10", True, "suspicious above 9"),
        ({"limit": None}, "93.1%", False, None),
        ({"value": NAN}, "–", False, "suspicious above 80%"),
    ],
)
def test_a_measure_by_its_scale(
    made: Any, shown: Any, changes: dict[str, Any], value: str, chart: bool, limit: str | None
) -> None:
    scan = made.scan_of(made.finding(measures=(made.measure(**changes),)))
    view = finding_views(scan)[0].measures[0]
    assert (view.value, view.chart is not None, view.limit) == (value, chart, limit)
    text = shown(scan=scan).text
    assert ("Patch success against its limit" in text) == chart
    assert (f"Suspicious {limit.partition(' ')[2]}." in text if limit else False) == (
        limit is not None and not chart
    )
    assert ("Logarithmic scale." in text) == (changes.get("scale") == "log")


def test_all_targets_are_listed_and_the_first_pictured(made: Any, shown: Any) -> None:
    targets = tuple(Target(index, 0.9, trigger=made.trigger()) for index in range(MAX_PICTURED + 3))
    page = shown(scan=made.scan_of(made.finding(targets=targets), examples=()))
    assert len(page.all("img")) == 2 * MAX_PICTURED
    assert f"All {MAX_PICTURED + 3} targets" in page.text
    assert page.row("all other classes") == ["cat", "90.0%"]


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (3, 224), (2, 30), (4, 30)])
def test_images_of_many_shapes(made: Any, shown: Any, channels: int, side: int) -> None:
    finding = made.finding(targets=(Target(0, 0.9, trigger=made.trigger(channels, side)),))
    page = shown(
        scan=made.scan_of(finding, examples=(made.examples(count=10, channels=channels, side=side),))
    )
    images = page.all("img")
    assert len(images) == 2 + 2 * 8
    for attributes in images:
        raw = base64.b64decode((attributes["src"] or "").partition(",")[2])
        assert Image.open(io.BytesIO(raw)).size == (side, side)


def test_stamped_examples_carry_the_recovered_trigger(made: Any, shown: Any) -> None:
    examples = made.examples(count=1)
    images = shown(scan=made.scan(examples=(examples,))).all("img")
    raw = base64.b64decode((images[-1]["src"] or "").partition(",")[2])
    drawn = torch.tensor(list(Image.open(io.BytesIO(raw)).tobytes())).reshape(1, 1, 28, 28)
    expected = (made.trigger().apply(examples.images.float() / 255) * 255).round()
    assert torch.equal(drawn, expected.long())


def test_examples_say_what_is_known(made: Any, shown: Any) -> None:
    full = made.examples(count=2)
    told = shown(scan=made.scan(examples=(full,))).text
    assert "True class dog Suspect dog → cat Reference, stamped dog" in told
    assert "Suspect cat unchanged" in told
    bare = replace(full, labels=None, reference_stamped=None)
    told = shown(scan=made.scan(examples=(bare,))).text
    assert "Suspect dog → cat" in told
    assert "True class" not in told
    assert "Reference, stamped" not in told


def test_examples_belong_to_their_detector(made: Any, shown: Any) -> None:
    assert "Examples" not in shown(scan=made.scan(examples=(made.examples("another"),))).text
    findings = (made.finding(), made.finding(detector="another"))
    page = shown(scan=made.scan(findings=findings, examples=(made.examples("another"),)))
    assert page.text.count("True class") == 8
    assert page.html.index("True class") > page.html.index('id="finding-2"')


def test_each_target_has_its_own_examples(made: Any, shown: Any) -> None:
    """A target is found by its number: the same class may be the target of two triggers."""
    darker = Addition(torch.full((1, 28, 28), -0.25))
    targets = (Target(0, 0.9, trigger=made.trigger()), Target(0, 0.8, (1,)), Target(0, 0.7, (2,), darker))
    examples = (made.examples(count=1), replace(made.examples(count=1), number=2))
    scan = made.scan_of(made.finding(targets=targets), examples=examples)
    first, second = finding_views(scan)[0].examples
    assert [(each.sources, each.target, len(each.images)) for each in (first, second)] == [
        ("all other classes", "cat", 1),
        ("owl", "cat", 1),
    ]
    assert "owl → cat: each image clean" in shown(scan=scan).text
    original = examples[1].images.float() / 255
    assert second.images[0].stamped == photo(darker.apply(original)[0])
    assert first.images[0].stamped == photo(made.trigger().apply(original)[0])
    without = (replace(examples[0], number=1), replace(examples[0], number=3))
    assert finding_views(replace(scan, examples=without))[0].examples == []


def test_an_addition_is_pictured_around_grey(made: Any, shown: Any) -> None:
    delta = torch.zeros(1, 28, 28)
    delta[0, 0, :2] = torch.tensor([0.125, -0.125])
    page = shown(scan=made.scan_of(made.finding(targets=(Target(0, 0.9, trigger=Addition(delta)),))))
    assert "Change, amplified 4 times around grey" in page.text
    assert "changes every pixel, by 0.6% of the range" in page.text
    assert "Change 0.6% of the pixels’ range" in page.text
    assert "Patch size" not in page.text
    assert "Mask: 0, image kept" not in page.text
    raw = base64.b64decode((page.all("img")[0]["src"] or "").partition(",")[2])
    assert list(Image.open(io.BytesIO(raw)).tobytes())[:3] == [255, 0, 128]


def test_coverage_and_p_value(made: Any, shown: Any) -> None:
    coverage = (
        Covered("patch, all-to-one", "up to 16%", True, found=39, measured=40),
        Covered("patch, one-to-one", "up to 16%", True),
        Covered("addition, one-to-one", "at most 10%", False, "only with the effort exhaustive"),
    )
    page = shown(scan=made.scan_of(made.finding("clean", coverage=coverage, p_value=0.25)))
    assert page.row("patch, all-to-one up to 16%") == ["searched", "97.5% 39 of 40"]
    assert page.row("patch, one-to-one") == ["searched", "not measured"]
    assert page.row("addition, one-to-one") == [
        "not searched only with the effort exhaustive",
        "not measured",
    ]
    assert "an honest model would look at least this suspicious with a probability of about 0.25" in page.text
    assert "Strongest candidate" in page.text
    bare = shown(scan=made.scan()).text
    assert "p-value" not in bare
    assert "Coverage" not in bare
