import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.guard import rounds
from benchmarks.guard.federations import (
    ADAPTIVE,
    ATTACKS,
    DATASETS,
    HONEST_ROUNDS,
    PARTITIONS,
    SEEDS,
    Cell,
    cells,
    settings,
)
from benchmarks.guard.tables import tables
from benchmarks.guard.targets import (
    FEDERATIONS,
    of_accuracy,
    of_honest,
    of_memory,
    of_overhead,
    of_planting,
    of_released,
    targets,
)

from fedmend.files import write_text
from fedmend.guard import GuardPolicy

Run = dict[str, Any]


def run(attack: str | None, guarded: bool, dataset: str = "mnist", seed: int = 0, **changes: Any) -> Run:
    """A federation of two rounds in which nothing goes wrong."""
    rows: list[dict[str, Any]] = [{"round": number, "accuracy": 0.97} for number in range(3)]
    for row in rows:
        if attack is not None:
            row["asr"] = 0.01 if guarded or row["round"] == 0 else 0.95
        if guarded and row["round"]:
            row |= {"action": "accept", "verdict": "clean"}
    rows[2] |= changes
    return {
        "dataset": dataset,
        "seed": seed,
        "attack": attack,
        "guarded": guarded,
        "rounds": rows,
        "commit": "0" * 12,
        "versions": {"torch": "2"},
        "machine": "m",
    }


def test_nothing_measured_yet(tmp_path: Path) -> None:
    assert {line.status for line in targets(tmp_path)} == {"not run"}
    assert {line.measured for line in targets(tmp_path)} == {"not measured yet"}
    assert tables(tmp_path).count("###") == 1


def test_an_attack_without_success_says_nothing_about_the_guard() -> None:
    assert of_planting([run("sba", False)]).status == "incomplete"
    assert (
        of_planting([run("sba", False), run("dba", False, asr=0.5) | {"rounds": [{"asr": 0.79}]}]).status
        == "missed"
    )


@pytest.mark.parametrize(
    ("asr", "n", "status"), [(0.05, 4, "met"), (0.051, 4, "missed"), (0.05, 3, "incomplete")]
)
def test_one_released_model_above_the_limit_is_a_miss(asr: float, n: int, status: str) -> None:
    runs = [run("sba", True, asr=asr)] + [run("sba", True) for _ in range(n - 1)]
    line = of_released("sba", runs)
    assert line.status == status
    assert (" (1 rounds above)" in line.measured) is (status == "missed")


def test_a_later_clean_model_makes_no_good() -> None:
    changed = run("sba", True)
    changed["rounds"][1]["asr"] = 0.4
    assert rounds.largest_asr(changed) == 0.4


@pytest.mark.parametrize(
    ("accuracy", "status"), [(0.96, "incomplete"), (0.9599, "missed"), (0.99, "incomplete")]
)
def test_accuracy_is_compared_with_the_same_federation_without_an_attacker(
    accuracy: float, status: str
) -> None:
    guarded = run("sba", True, accuracy=accuracy)
    others = [run(None, False, seed=1, accuracy=0.5), run(None, False), run(None, True, accuracy=0.5)]
    line = of_accuracy("lost", [guarded], [*others, guarded])
    assert line.status == status
    assert of_accuracy("lost", [guarded], [guarded]).n == 0


def test_repaired_and_rolled_back_honest_rounds_are_held_back() -> None:
    runs = [run(None, True, action=action) for action in ("accept", "repair", "rollback")]
    assert [rounds.held_back(each) for each in runs] == [0, 1, 1]
    assert of_honest(runs).status == "incomplete"
    assert of_honest([*runs, runs[1]]).status == "missed"
    assert of_honest(runs).measured == "2 of 6 (95 % interval 4 to 78 %)"


@pytest.mark.parametrize(("share", "status"), [(0.05, "met"), (0.051, "missed")])
def test_overhead(share: float, status: str) -> None:
    rows = [
        {"network": name, "share": each, "share_of_parallel_round": 0.5}
        for name, each in (("convnet", share), ("resnet18", 0.01), ("another", 0.9))
    ]
    assert of_overhead({"rows": rows}).status == status
    assert of_overhead({"rows": rows[1:]}).status == "incomplete"


@pytest.mark.parametrize(
    ("growth", "n", "status"), [(5.0, 200, "met"), (5.1, 200, "missed"), (1.0, 199, "incomplete")]
)
def test_memory(growth: float, n: int, status: str) -> None:
    assert of_memory({"growth_after_20_reviews_mib": growth, "rounds": n}).status == status


def test_tables_hold_each_column(tmp_path: Path) -> None:
    lines = [
        run("sba", False, accuracy=0.9),
        run("sba", True, action="rollback", accuracy=0.96),
        run(None, False),
        run(None, True, action="repair", verdict="backdoored"),
        run("dba", True, action="repair", candidate_asr=0.8, accuracy=0.965) | {"repairs": True},
    ]
    write_text(tmp_path / "released.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    text = tables(tmp_path)
    assert "| mnist, iid | sba | 97.0% | 90.0% | 96.0% | 1.0% | 95.0% | 1.0% | `AR` |" in text
    assert "| mnist, iid | 97.0% | 97.0% | 1 of 2 (95 % interval 1 to 99 %) | 1 backdoored |" in text
    assert "| mnist, iid | dba | 97.0% | 96.5% | 80.0% | 1.0% | `AP` |" in text
    assert "| mnist, iid | dba | 97.0% | –" not in text, "a guard that repairs isn't one that rolls back"
    assert "`000000000000` (5)" in text


def test_every_federation_is_one_that_can_be_simulated() -> None:
    found = list(cells())
    assert (
        len({cell.name for cell in found})
        == len(found)
        == FEDERATIONS * (3 * len(ATTACKS) + 2) + 2 * len(DATASETS) * len(ADAPTIVE)
    )
    for cell in found:
        config = settings(cell, Path("start.safetensors"))
        assert len(config.attack) == (cell.attack is not None)
        assert (config.guard is not None) is cell.guarded
        if config.guard is not None:
            assert ("trusted" in config.guard) is (cell.attack != "in-the-reference")
            assert (GuardPolicy.from_table(config.guard).made_repair() is not None) is cell.repairs


def test_with_and_without_a_guard_the_federation_is_the_same() -> None:
    alone, guarded = (settings(Cell("mnist", 0, "dba", each), Path("start")) for each in (False, True))
    assert (alone.seed, alone.attack, alone.training) == (guarded.seed, guarded.attack, guarded.training)
    assert alone.attack[0].attackers == 3
    honest = settings(Cell("mnist", 0, None, True), Path("start"))
    assert honest.seed == alone.seed
    assert honest.federation.rounds == HONEST_ROUNDS


def test_seeds_stand_for_partitions() -> None:
    assert [
        settings(Cell(DATASETS[0], seed, None, False), Path("x")).data.partition for seed in SEEDS
    ] == list(PARTITIONS)
