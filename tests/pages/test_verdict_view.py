from __future__ import annotations

from typing import Any

import pytest

from fedmend.detection.base import Target
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
    page = shown(scan=made.scan(), repair=made.pruned())
    assert "Scan backdoored Repair unverified Target class" in page.text


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
