from __future__ import annotations

from typing import Any

import pytest

from fedmend.pages import AttackEvaluation
from fedmend.pages.repair_view import attack_rows
from fedmend.repairs.repair_report import TargetCheck


def test_before_and_after(made: Any, shown: Any) -> None:
    checks = (TargetCheck(0, (), 0.928, 0.012), TargetCheck(2, (1,), 0.5, float("nan")))
    page = shown(scan=made.scan(), repair=made.repair(target_checks=checks))
    rows = [row for row in page.rows if row[0].startswith(("Clean accuracy", "Recovered"))]
    assert rows == [
        ["Clean accuracy on 1,000 held-out images", "87.1%", "86.7%"],
        ["Recovered trigger’s success all other classes → cat, on 1,000 held-out images", "92.8%", "1.2%"],
        ["Recovered trigger’s success dog → owl, on 1,000 held-out images", "50.0%", "–"],
    ]
    assert "width: nan" not in page.html


def test_facts_are_the_records(made: Any, shown: Any) -> None:
    page = shown(repair=made.repair())
    for wanted in (
        "New scan clean", "Method unlearning", "Allowed accuracy drop 1.0 points",
        "Standard error of the drop 0.4 points", "Passes 2", "Triggers 5", "Time 3.2 s",
    ):  # fmt: skip
        assert wanted in page.text, wanted
    page = shown(repair=made.repair(details=None, accuracy_error=0.0, num_judged=0, num_heldout=0))
    assert "Standard error" not in page.text
    assert "Passes" not in page.text
    assert page.row("Clean accuracy as the clients reported it") == ["87.1%", "86.7%"]
    assert shown(repair=made.repair()).row("Clean accuracy on 1,000 held-out images") == ["87.1%", "86.7%"]
    page = shown(repair=made.repair(num_heldout=0))
    assert page.row("Clean accuracy on 1,000 images, 0 of them held out") == ["87.1%", "86.7%"]


@pytest.mark.parametrize(
    ("outcome", "headline"),
    [
        ("failed", "Repair failed"),
        ("not needed", "No repair needed"),
        ("undecided", "Not repaired"),
        ("unverified", "Repair not verified"),
    ],
)
def test_outcomes_without_a_new_scan(made: Any, shown: Any, outcome: str, headline: str) -> None:
    page = shown(scan=made.scan(), repair=made.repair(outcome=outcome, verdict_after=None))
    assert f"{headline} The trigger's success fell to 1.2%." in page.text
    assert "New scan not scanned again" in page.text
    assert "A new scan finds no backdoor" not in page.text


def test_attacks_are_measured_one_by_one(made: Any, shown: Any) -> None:
    evaluation = AttackEvaluation(50, 0.9, (0.98, 0.7), 0.88, (0.01, 0.02))
    page = shown(repair=made.repair(), evaluation=evaluation)
    assert page.row("Attack success rate (ASR), attack 1") == ["98.0%", "1.0%"]
    assert page.row("Attack success rate (ASR), attack 2") == ["70.0%", "2.0%"]
    assert page.row("Test accuracy known only in a simulation; on 50 test images") == ["90.0%", "88.0%"]
    assert "Unknown to the defender: the attack success rate (ASR) and the test accuracy." in page.text
    alone = shown(evaluation=AttackEvaluation(50, 0.9, (0.98,)))
    assert alone.row("Attack success rate (ASR) the attacker’s own trigger") == ["98.0%", "–"]
    assert attack_rows(None) == []


def test_settings_name_what_was_repaired_how(made: Any, shown: Any) -> None:
    page = shown(repair=made.pruned())
    assert [page.row(name) for name in ("method", "vote", "layer", "max_accuracy_drop", "adjust_first")] == [
        ["pruning"], ["ranking"], ["conv2"], ["0.05"], ["yes"],
    ]  # fmt: skip
