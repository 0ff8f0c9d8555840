from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fedmend.detection.agreement import compare_methods
from fedmend.detection.base import Target
from fedmend.detection.choosing import LeftOut
from fedmend.pages.verdict_view import view_of_verdict


@pytest.mark.parametrize(
    ("verdict", "headline", "tone"),
    [
        ("backdoored", "Backdoor found", "bad"),
        ("clean", "No backdoor found", "good"),
        ("inconclusive", "The scan is inconclusive", "unsure"),
    ],
)
def test_each_verdict_in_words(made: Any, shown: Any, verdict: Any, headline: str, tone: str) -> None:
    page = shown(scan=made.scan(verdict))
    assert f"Verdict on the scanned model {headline} Reason for {verdict}." in page.text
    assert f'<section class="verdict {tone}"' in page.html
    assert ("Backdoor found" in page.text) == (verdict == "backdoored")


@pytest.fixture
def several(made: Any) -> Any:
    return made.scan(
        findings=(
            made.finding("clean", detector="first", suspicious=0.1, targets=()),
            made.finding(detector="second", targets=(Target(1, 0.97), Target(2, 0.9)), seconds=62.0),
            made.finding("inconclusive", detector="third", suspicious=float("nan"), limit=float("nan")),
        )
    )


def test_findings_stand_side_by_side(shown: Any, several: Any) -> None:
    page = shown(scan=several)
    disagrees = "disagrees with the scan’s verdict"
    assert page.row("first") == [f"clean {disagrees}", "0.10", "0.80", "none named", "6.4 s"]
    assert page.row("second") == ["backdoored", "0.93", "0.80", "dog and 1 more", "1 min 2 s"]
    assert page.row("third") == [f"inconclusive {disagrees}", "–", "–", "cat", "6.4 s"]
    assert page.html.count('class="disagrees"') == 2


def test_facts_are_the_worst_findings(made: Any, several: Any) -> None:
    facts = view_of_verdict(made.everything(scan=several)).facts
    assert [(fact.label, fact.value + fact.small) for fact in facts] == [
        ("Target class", "dog and 1 more"),
        ("Success", "97.0%"),
        ("Images", "30"),
        ("Time", "7.1 s"),
    ]


def test_one_finding_needs_no_table(made: Any, shown: Any) -> None:
    page = shown(scan=made.scan())
    assert not [table for table in page.all("table") if table.get("class") == "methods"]
    assert page.text.count("Reason for backdoored.") == 1
    page = shown(scan=made.scan(reason="Of the whole scan."))
    assert "Of the whole scan." in page.text
    assert page.text.count("Reason for backdoored.") == 1


def test_a_scan_and_its_repair_are_told_in_order(made: Any, shown: Any) -> None:
    page = shown(scan=made.scan(), repair=made.repair())
    assert "Scan backdoored Repair repaired New scan clean" in page.text
    assert "Don’t release this model, but the repaired one" in page.text
    page = shown(scan=made.scan(), repair=made.pruned())
    assert "Scan backdoored Repair unverified Target class" in page.text
    assert "Don’t release this model: repair it" in page.text


def test_without_a_scan_the_repair_is_the_headline(made: Any, shown: Any) -> None:
    page = shown(repair=made.repair())
    assert "Outcome of the repair Repaired The trigger's success fell to 1.2%." in page.text
    page = shown(repair=made.pruned())
    assert '<section class="verdict unsure"' in page.html
    assert "Outcome of the repair Repair not verified 3 of 6 channels pruned." in page.text
    assert "or whether it is gone" in page.text
    assert "90.8% from 91.3% Channels pruned 3 of 6" in page.text
    failed = shown(repair=made.pruned(outcome="failed", reason="Too much was lost."))
    assert '<section class="verdict bad"' in failed.html
    assert "Repair failed Too much was lost." in failed.text


def test_a_source_class_is_named_beside_the_target(made: Any, shown: Any) -> None:
    target = Target(1, 0.97, (2,))
    assert (
        "Target class dog from owl Success" in shown(scan=made.scan_of(made.finding(targets=(target,)))).text
    )


def test_a_clean_models_class_is_no_target(made: Any, shown: Any) -> None:
    clean = made.scan_of(made.finding("clean", targets=(Target(1, 0.2, (2,)),)))
    assert "Strongest candidate dog from owl Success" in shown(scan=clean).text


SCOPE = "No reference was given, so much is unknown."


def test_without_a_reference_clean_is_worded_weaker(made: Any, shown: Any) -> None:
    page = shown(scan=made.scan("clean", scope=SCOPE))
    assert "Verdict on the scanned model Nothing unusual found, without a reference" in page.text
    assert '<section class="verdict plain"' in page.html
    assert f"Without a reference. {SCOPE}" in page.text
    assert "No backdoor found" not in page.text
    page = shown(scan=made.scan("backdoored", scope=SCOPE))
    assert "Backdoor found" in page.text
    assert SCOPE in page.text


def test_agreement_and_what_was_left_out_are_told(made: Any, shown: Any, several: Any) -> None:
    found = compare_methods(several.findings, several.class_names)
    left_out = (LeftOut("fourth", "needs <more>"), LeftOut("fifth", "needs <more>"))
    page = shown(scan=replace(several, agreement=found, left_out=left_out))
    assert (
        "The 3 methods disagree: 1 backdoored (second), 1 inconclusive (third), 1 clean (first)." in page.text
    )
    assert "Left out: fourth, fifth (needs <more>)." in page.text


def test_a_target_without_a_trigger_has_no_success(made: Any, shown: Any) -> None:
    page = shown(scan=made.scan(findings=(made.finding(targets=(Target(1, float("nan")),)),)))
    assert "all other classes → dog named without a trigger" in page.text
    assert "Success –" not in page.text


def test_poisoned_images_are_listed(made: Any, shown: Any) -> None:
    page = shown(scan=made.scan(findings=(made.finding(poisoned=(3, 17)),)))
    assert "Poisoned images their numbers among the scanned ones, from 0 2 of 30: 3, 17" in page.text
    assert "Poisoned images" not in shown(scan=made.scan()).text
