from __future__ import annotations

import re
from typing import Any

from fedmend.pages import AttackedRound


def test_what_the_attacker_knows_is_drawn_and_marked(made: Any, shown: Any) -> None:
    page = shown(rounds=made.rounds(), attacks=(made.attack(),), attacked_rounds=made.attacked_rounds())
    assert re.findall(r'class="curve (.*?)"', page.html) == ["accuracy", "asr dash-0"]
    assert len([a for a in page.all("circle") if a.get("class") == "attacker"]) == 6
    assert "Unknown to the defender: the attack success rate, and which rounds were attacked." in page.text
    assert page.row("8") == ["74.0%", "90.0%", "3"]
    assert page.row("2") == ["56.0%", "2.0%", "none"]
    assert "attack success rate: 90.0% in round 12, at most 90.0%" in page.text


def test_an_honest_federation_has_no_attack(made: Any, shown: Any) -> None:
    page = shown(rounds=made.rounds())
    assert re.findall(r'class="curve (.*?)"', page.html) == ["accuracy"]
    assert page.row("2") == ["56.0%"]
    assert "nknown to the defender" not in page.text
    assert "ttack" not in page.text


def test_each_attack_has_a_curve_and_a_column(made: Any, shown: Any) -> None:
    page = shown(rounds=made.rounds(), attacked_rounds=made.attacked_rounds(attacks=2))
    assert re.findall(r'class="curve (.*?)"', page.html) == ["accuracy", "asr dash-0", "asr dash-1"]
    assert page.row("8") == ["74.0%", "90.0%", "70.0%", "3"]
    assert "Attack success rate (ASR), attack 2" in page.text


def test_rounds_of_which_the_attacker_says_nothing(made: Any, shown: Any) -> None:
    known = (AttackedRound(2, (), (0.1,)), AttackedRound(3, (), (0.2,)), AttackedRound(5, (1, 4), (None,)))
    page = shown(rounds=made.rounds(6), attacked_rounds=known)
    assert page.row("1") == ["53.0%", "–", "none"]
    assert page.row("5") == ["65.0%", "–", "1, 4"]
    drawn = re.findall(r'points="([^"]*)" class="curve asr', page.html)
    assert [len(points.split()) for points in drawn] == [2]


def test_one_round_is_no_chart(made: Any, shown: Any) -> None:
    assert "Figures by round" not in shown(rounds=made.rounds(1)).text
    assert "Figures by round" in shown(rounds=made.rounds(2)).text
