import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.attacks.cells import CELLS
from benchmarks.attacks.tables import tables
from benchmarks.attacks.targets import targets

from fedmend.federation import parse_config


def row(name: str, **changes: Any) -> dict[str, Any]:
    found = {"rounds": 4, "accuracy": 0.5, "accuracy_before": 0.7, "asr": 0.9, "commit": "abc"}
    return found | {"settings": CELLS[name].settings(Path("honest"))} | changes


@pytest.mark.parametrize("name", CELLS)
def test_settings_are_valid_and_the_comparison_is_honest(name: str) -> None:
    cell = CELLS[name]
    assert len(parse_config(cell.settings(Path("honest"))).attack) == 1
    assert parse_config(cell.settings(Path("honest"), compared=True)).attack == ()
    assert cell.compared == (cell.effect == "accuracy lost")


def test_an_effect_is_the_asr_or_the_accuracy_lost(tmp_path: Path) -> None:
    file = tmp_path / "effects.json"
    assert {line.status for line in targets(file)} == {"not run"}
    rows = {"warp": row("warp"), "fang-krum": row("fang-krum", compared_accuracy=0.6)}
    file.write_text(json.dumps(rows), encoding="utf-8")
    found = {line.name: (line.measured, line.status) for line in targets(file)}
    assert found["warp, asr"] == ("90.0%, accuracy 50.0%", "met")
    assert found["fang-krum, accuracy lost"] == ("10.0%, accuracy 50.0%", "missed")
    assert "| fang-krum | `krum` | 3 | 4 | accuracy lost | 10.0% | 20% | 60.0% to 50.0% |" in tables(file)
