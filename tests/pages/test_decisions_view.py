from __future__ import annotations

import re
from typing import Any

import pytest

from fedmend.guard.decisions import Action, Line
from fedmend.pages import AttackedRound


def line(number: int | None, action: Action, accuracy: float | None = 0.9, stop: bool = False) -> Line:
    return Line(
        round=number,
        action=action,
        verdict="clean",
        reason=f"The reason of round {number} is <b>.",
        stop=stop,
        evidence={"accuracy": {"candidate": accuracy, "released": 0.8}},
        policy={"every": 2},
        seed=1,
        versions={"fedmend": "0.1.0"},
        date="",
        seconds=1.0,
        previous="0" * 64,
    )


DECISIONS = (
    line(None, "accept"),
    line(1, "accept"),
    line(2, "accept"),
    line(3, "hold"),
    line(4, "repair"),
    line(5, "rollback", None),
)
KNOWN = (
    AttackedRound(2, (), (0.01,), (0.01,)),
    AttackedRound(3, (1,), (0.7,), (0.7,)),
    AttackedRound(4, (1,), (0.02,), (0.95,)),
)


def test_a_row_of_marks_over_the_rounds(shown: Any) -> None:
    page = shown(decisions=DECISIONS)
    marks = re.findall(r'<svg x="([\d.]+)%"[^>]*class="decided (\w+)"', page.html)
    assert marks == [
        ("0.000", "accept"),
        ("25.000", "accept"),
        ("50.000", "hold"),
        ("75.000", "repair"),
        ("100.000", "rollback"),
    ]
    assert (
        "Accepted in rounds 1 to 2. Held in round 3. Repaired in round 4. Rolled back in round 5."
        in page.text
    )
    assert "2 accepted, 1 repaired, 1 rolled back, 1 held" in page.text
    assert "The reason of round 5 is &lt;b&gt;." in page.html
    assert page.row("5")[:4] == ["rolled back", "clean", "–", "80.0%"]
    assert "nknown to the defender" not in page.text


def test_an_unmeasured_accuracy_is_a_gap(shown: Any) -> None:
    page = shown(decisions=DECISIONS)
    (drawn,) = re.findall(r'points="([^"]*)" class="curve candidate"', page.html)
    assert len(drawn.split()) == 4


@pytest.mark.parametrize(
    "accuracy", [10**400, float("inf"), -1, "0.9"], ids=["huge", "infinite", "negative", "text"]
)
def test_what_is_no_accuracy_is_a_gap(shown: Any, accuracy: Any) -> None:
    """A history may have been written by anyone."""
    page = shown(decisions=(line(1, "accept"), line(2, "accept", accuracy)))
    assert page.row("2")[2:4] == ["–", "80.0%"]


def test_the_attacks_success_is_that_of_what_was_released(shown: Any) -> None:
    page = shown(decisions=DECISIONS, attacked_rounds=KNOWN)
    assert page.row("3")[4:6] == ["70.0%", "1.0%"]  # held: the model of round 2 stays released
    assert page.row("4")[4:6] == ["95.0%", "2.0%"]
    assert page.row("1")[4:6] == ["–", "–"]
    assert "Attack success rate: at most 95.0% in candidates, 2.0% in released models." in page.text
    assert "Unknown to the defender: the attack success rate (ASR)." in page.text


def test_one_decision_is_a_table_without_a_chart(shown: Any) -> None:
    page = shown(decisions=(line(1, "rollback", stop=True),))
    assert "decided rollback" not in page.html
    assert page.row("1")[0] == "rolled back"
    assert "It asked to stop the federation." in page.text
    assert "Decisions by round" not in shown(decisions=(line(None, "accept"),)).text
