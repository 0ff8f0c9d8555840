import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.contest.federations import (
    ATTACKS,
    CLIENTS,
    DEFENCES,
    RULES,
    SHARES,
    Federation,
    cell,
    chosen,
    federations,
)
from benchmarks.contest.figures import heat_map
from benchmarks.contest.lines import FILE, as_line, load, rows
from benchmarks.contest.tables import tables
from benchmarks.contest.targets import of_accuracy, of_many_attackers, of_released, of_rules, targets

from fedmend.aggregation import AGGREGATORS
from fedmend.comparison import CellResult, CellRound
from fedmend.files import write_text
from fedmend.guard import GuardPolicy

FIRST = Federation("fashion-mnist", "iid", "fedavg", 0.2, "sba", "guard")
TOLD: dict[str, Any] = {"commit": "0" * 12, "versions": {"torch": "2"}, "machine": "m"}


def line(federation: Federation, asr: float | None = 0.01, accuracy: float | None = 0.9) -> dict[str, Any]:
    rounds = (CellRound(0, 0.5), CellRound(1, 0.9, (), (), "accept" if federation.attack else None))
    result = CellResult("k", "complete", rounds, accuracy, asr, 60.0)
    return as_line(federation.name, result, **TOLD)


def lines(*of: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each for each in (line(FIRST.honest(), None), *of)}


def changed(**changes: Any) -> Federation:
    return Federation(**(vars(FIRST) | changes))


def test_nothing_measured_yet(tmp_path: Path) -> None:
    assert {each.status for each in targets(tmp_path)} == {"not run", "no target"}
    assert {each.measured for each in targets(tmp_path)} == {"not measured yet"}
    assert tables(tmp_path).count("###") == 1
    assert heat_map(()) is None


@pytest.mark.parametrize(
    ("asr", "status"), [pytest.param(0.05, "incomplete", id="at"), pytest.param(0.051, "missed", id="above")]
)
def test_one_released_model_above_the_limit_is_a_miss(asr: float, status: str) -> None:
    found = of_released("guard", lines(line(FIRST, asr)))
    assert (found.status, found.n) == (status, 1)
    assert of_released("votes", lines(line(FIRST, asr))).n == 0


def test_forty_percent_have_no_target() -> None:
    many = lines(line(changed(share=0.4), 0.9))
    assert of_released("guard", many).n == 0
    assert of_many_attackers(many).measured.startswith("0 of 1")
    assert of_many_attackers(lines(line(FIRST, 0.9))).n == 0


@pytest.mark.parametrize(
    ("accuracy", "status"),
    [
        pytest.param(0.89, "incomplete", id="at"),
        pytest.param(0.8899, "missed", id="below"),
        pytest.param(None, "missed", id="nothing-released"),
    ],
)
def test_accuracy_is_compared_with_the_same_rule(accuracy: float | None, status: str) -> None:
    other = line(changed(rule="trimmed-mean").honest(), None, 0.99)
    found = of_accuracy("guard", lines(line(FIRST, 0.0, accuracy), other))
    assert (found.status, found.n) == (status, 1)


def test_rules_alone_only_inform() -> None:
    alone = changed(defence="nothing")
    assert of_rules(lines(line(alone, 0.9))).measured == "0 of 1 (95 % interval 0 to 98 %)"
    assert of_rules(lines(line(alone, 0.9), line(FIRST))).status == "no target"


def test_tables_show_misses_first_and_what_a_rule_does_better(tmp_path: Path) -> None:
    every = lines(
        line(FIRST, 0.4),
        line(changed(defence="nothing"), 0.02),
        line(changed(attack="dba"), 0.01, 0.905),
        line(changed(attack="dba", defence="nothing"), 0.8, 0.8),
    )
    write_text(tmp_path / FILE, "".join(json.dumps(each) + "\n" for each in every.values()))
    assert load(tmp_path) == json.loads(json.dumps(every))
    text = tables(tmp_path)
    where = text.index("### Where a defence misses")
    assert (
        text.index(
            "| fashion-mnist, iid, 20% attackers | fedavg | sba | guard | released ASR | 40.0% | +0.0 | `A` |"
        )
        > where
    )
    one, two = "1 of 2 (95 % interval 1 to 99 %)", "2 of 2 (95 % interval 16 to 100 %)"
    assert two not in text
    assert f"| fedavg | {one} | {one} | {one} | {one} | 1 of 2 |" in text
    assert "| fedavg | dba | **80.0%; +10.0** | 1.0%; -0.5 | `A` |" in text
    assert "`000000000000` (5)" in text
    assert heat_map(rows(federations(), every)) is not None


def test_chosen_federations_come_first_and_none_twice() -> None:
    every = [each.name for each in federations()]
    assert len(set(every)) == len(every) == 4 * len(RULES) * (1 + len(SHARES) * len(ATTACKS) * len(DEFENCES))
    picked = {name for each in chosen() for name in (each.name, each.honest().name)}
    assert set(every[: len(picked)]) == picked
    assert every[0] == FIRST.honest().name


def test_rules_join_by_name() -> None:
    assert set(RULES) == set(AGGREGATORS)
    assert {each.rule for each in chosen()} == set(AGGREGATORS)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("attack", ATTACKS)
def test_every_federation_is_one_that_can_be_simulated(attack: str, share: float) -> None:
    for dataset in ("fashion-mnist", "cifar10"):
        for defence in DEFENCES:
            made = cell(changed(dataset=dataset, attack=attack, share=share, defence=defence))
            assert made.config.attack[0].attackers == share * CLIENTS
            assert (made.votes is not None) is (defence == "votes")
            if made.config.guard is not None:
                GuardPolicy.from_table(made.config.guard)


def test_what_is_planted_depends_on_data_and_attack_alone() -> None:
    attacks = [
        cell(changed(**changes)).config.attack[0]
        for changes in ({}, {"share": 0.05}, {"rule": "trimmed-mean"}, {"defence": "votes"})
    ]
    assert len({(json.dumps(each.trigger), json.dumps(each.goal)) for each in attacks}) == 1
    assert cell(changed(attack="dba")).config.attack[0].distributed
    assert cell(changed(attack="amplified")).config.attack[0].update[0]["factor"] == 5.0
