from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fedmend.errors import DataError
from fedmend.report import read_folder, render

CONFIG = {
    "seed": 0,
    "data": {"source": "fashion-mnist-sample"},
    "attack": {"kind": "dba", "target_class": 2, "first_round": 7},
}
EVALUATION = {
    "kind": "dba",
    "target_class": 2,
    "accuracy_before": 0.87,
    "asr_before": 0.98,
    "num_images": 2000,
}


def _line(number: int, **changes: Any) -> str:
    line = {
        "round": number,
        "accuracy": 0.5,
        "asr": None,
        "clients": [1, 2],
        "attackers": [2],
        "seconds": 1.5,
    }
    return json.dumps(line | changes)


@pytest.fixture
def folder(made: Any, tmp_path: Path) -> Path:
    (tmp_path / "scan.json").write_text(made.scan().to_json())
    (tmp_path / "repair.json").write_text(json.dumps(asdict(made.repair())))
    (tmp_path / "evaluation.json").write_text(json.dumps(EVALUATION))
    (tmp_path / "rounds.jsonl").write_text("\n".join(_line(number) for number in range(1, 11)) + "\n")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "report.json").write_text('{"title": "My run", "reference_round": 6, "suspect_round": 10}')
    planted = made.trigger()
    save_file({"mask": planted.mask, "pattern": planted.pattern}, tmp_path / "planted_trigger.safetensors")
    return tmp_path


def test_everything_is_gathered(made: Any, folder: Path) -> None:
    contents = read_folder(folder)
    assert contents.title == "My run"
    assert contents.scan is not None
    assert contents.scan.verdict == "backdoored"
    assert contents.repair == made.repair()
    assert contents.attack is not None
    assert contents.attack.asr_before == 0.98
    assert contents.attack.trigger is not None
    assert torch.equal(contents.attack.trigger.mask, made.trigger().mask)
    assert [item.round for item in contents.rounds] == list(range(1, 11))
    assert contents.rounds[0].attackers == (2,)
    assert (contents.reference_round, contents.suspect_round, contents.first_attack_round) == (6, 10, 7)
    assert contents.settings == CONFIG
    assert contents.versions["torch"] == "2.13.0"
    assert "first attack, round 7" in render(contents)


@pytest.mark.parametrize(
    "name", ["scan.json", "repair.json", "evaluation.json", "rounds.jsonl", "config.json"]
)
def test_each_file_is_enough_and_none_is_needed(folder: Path, tmp_path: Path, name: str) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / name).write_bytes((folder / name).read_bytes())
    contents = read_folder(alone)
    assert contents.title == "Report on alone"
    assert render(contents)
    (folder / name).unlink()
    assert render(read_folder(folder))


def test_the_planted_trigger_is_shown_without_an_evaluation(folder: Path) -> None:
    (folder / "evaluation.json").unlink()
    attack = read_folder(folder).attack
    assert attack is not None
    assert (attack.kind, attack.target_class, attack.asr_before) == ("dba", 2, None)


def test_a_torn_last_line_is_passed_over_and_a_later_round_wins(folder: Path) -> None:
    lines = [_line(1), _line(2), _line(2, accuracy=0.75), _line(3)[:20]]
    (folder / "rounds.jsonl").write_text("\n".join(lines))
    assert [(item.round, item.accuracy) for item in read_folder(folder).rounds] == [(1, 0.5), (2, 0.75)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scan.json", b""),
        ("scan.json", b'{"verdict": "clean"}'),
        ("repair.json", b'{"outcome": "repaired", "reason": "", "surprise": 1}'),
        ("repair.json", b'{"outcome": "mended", "reason": ""}'),
        ("repair.json", b'{"outcome": '),
        ("evaluation.json", b'{"kind": "dba"}'),
        ("config.json", b"[1, 2]"),
        ("config.json", b"\xff\xfe"),
        ("report.json", b'{"titel": "x"}'),
        ("rounds.jsonl", b'{"round": 1}\n{"round": 2, "accuracy": 0.5}\n'),
        ("planted_trigger.safetensors", b"\xff" * 40),
        ("planted_trigger.safetensors", b""),
    ],
)
def test_a_damaged_file_is_one_clear_line(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_folder(folder)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_scan_is_one_clear_line(folder: Path) -> None:
    text = (folder / "scan.json").read_text()
    (folder / "scan.json").write_text(text[: len(text) // 2])
    with pytest.raises(DataError, match="scan again") as caught:
        read_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tensors",
    [
        {"mask": torch.zeros(1, 4, 4)},
        {"mask": torch.zeros(1, 4, 4), "pattern": torch.full((1, 4, 4), float("nan"))},
        {"mask": torch.zeros(1, 4, 4), "pattern": torch.zeros(1, 5, 5)},
    ],
)
def test_a_planted_trigger_that_is_none(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / "planted_trigger.safetensors")
    with pytest.raises(DataError, match=r"planted_trigger\.safetensors is damaged"):
        read_folder(folder)


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected at least one of scan\.json, repair\.json"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        read_folder(tmp_path / "absent")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(DataError, match="nothing to report"):
        read_folder(tmp_path)
