import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.attacks.cells import CELLS
from benchmarks.attacks.setting import AFTER, DEVELOPMENT, LASTING, SEEDS
from benchmarks.attacks.tables import tables
from benchmarks.attacks.targets import targets

from fedmend.federation import parse_config


def row(name: str, asr: float = 0.9, accuracy: float = 0.8, after: float = 0.5) -> dict[str, Any]:
    """A run whose effect comes in its last attacked round."""
    cell = CELLS[name]
    return {
        "seed": 3,
        "asr": [0.0] * cell.rounds + [asr] + [after] * cell.after,
        "accuracy": [0.84] * cell.rounds + [accuracy] + [0.84] * cell.after,
        "honest_accuracy": [0.1] * cell.rounds + [0.84],
        "settings": cell.settings(3, "start-3.safetensors"),
        "commit": "abc",
    }


def lines(folder: Path, **rows: dict[str, Any]) -> dict[str, tuple[str, str]]:
    file = folder / "effects.json"
    file.write_text(json.dumps({name: [each] for name, each in rows.items()}), encoding="utf-8")
    return {line.name: (line.measured, line.status) for line in targets(file)}


@pytest.mark.parametrize("name", CELLS)
def test_settings_are_valid_and_the_comparison_is_honest(name: str) -> None:
    cell = CELLS[name]
    attacked = parse_config(cell.settings(3, "start"))
    assert [each.last_round for each in attacked.attack] == [cell.rounds]
    assert attacked.federation.rounds == cell.rounds + cell.after
    honest = parse_config(cell.settings(3, "start", honest=True))
    assert honest.attack == ()
    assert (honest.training, honest.aggregation) == (attacked.training, attacked.aggregation)


def test_settings_are_not_chosen_on_a_recorded_seed() -> None:
    assert DEVELOPMENT not in SEEDS


def test_a_backdoor_counts_if_it_works_and_the_accuracy_is_kept(tmp_path: Path) -> None:
    assert {line.status for line in targets(tmp_path / "none.json")} == {"not run"}
    assert lines(tmp_path, warp=row("warp", 0.995))["warp, asr"][0] == "99.5%; accuracy 80.0% or more"
    seeds = "met" if len(SEEDS) == 1 else "incomplete"
    assert lines(tmp_path, warp=row("warp", 0.995))["warp, asr"][1] == seeds
    assert lines(tmp_path, warp=row("warp", 0.2))["warp, asr"][1] == "missed"
    assert lines(tmp_path, warp=row("warp", 0.995, accuracy=0.78))["warp, asr"][1] == "missed"


def test_an_untargeted_attack_is_compared_with_the_honest_federation(tmp_path: Path) -> None:
    found = lines(tmp_path, **{"fang-krum": row("fang-krum", accuracy=0.74)})
    assert found["fang-krum, accuracy lost"] == ("10.0%; accuracy 74.0% or more", "missed")


def test_what_lasts_is_compared_with_plain_poisoning(tmp_path: Path) -> None:
    plain = LASTING["neurotoxin"]
    rows = {plain: row(plain, after=0.3), "neurotoxin": row("neurotoxin", after=0.2)}
    line = f"neurotoxin, ASR after {AFTER} honest rounds"
    assert lines(tmp_path, **rows)[line] == ("20.0% and 30.0%", "missed")
    rows["neurotoxin"] = row("neurotoxin", after=0.4)
    assert lines(tmp_path, **rows)[line][1] != "missed"
    assert "| neurotoxin | 90.0% | 40.0% | 40.0% |" in tables(tmp_path / "effects.json")


def test_a_table_row_gives_the_range_over_seeds(tmp_path: Path) -> None:
    file = tmp_path / "effects.json"
    cell = CELLS["warp"]
    file.write_text(json.dumps({"warp": [row("warp", 0.9), row("warp", 0.995)]}), encoding="utf-8")
    aims = f"asr | 90.0 to 99.5% | {cell.least:.0%} | 1 of 2 | 84.0%; 80.0% |"
    assert f"| {cell.rounds} | {aims}" in tables(file)
