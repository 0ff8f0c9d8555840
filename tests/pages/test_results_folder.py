from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fedmend.checkpoints import save_trigger
from fedmend.errors import CheckpointError, DataError, OutputError
from fedmend.federation import RunFolder
from fedmend.pages import AttackEvaluation, read_folder, render, write_evaluation, write_page_settings

CONFIG = {
    "seed": 0,
    "data": {"source": "fashion-mnist-sample"},
    "attack": {"kind": "dba", "target_class": 2, "first_round": 7},
}


@pytest.fixture
def folder(made: Any, tmp_path: Path) -> Path:
    (tmp_path / "scan.json").write_text(made.scan().to_json())
    (tmp_path / "repair.json").write_text(made.repair().to_json())
    write_evaluation(tmp_path, made.attack())
    for record in made.rounds():
        RunFolder(tmp_path).append(record)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    write_page_settings(tmp_path, title="My run", reference_round=6, suspect_round=10)
    return tmp_path


def test_everything_is_gathered(made: Any, folder: Path) -> None:
    contents = read_folder(folder)
    assert contents.title == "My run"
    assert contents.scan is not None
    assert contents.scan.verdict == "backdoored"
    assert contents.repair == made.repair()
    assert contents.attack is not None
    assert contents.attack.asr_before == made.attack().asr_before
    assert contents.attack.trigger is not None
    assert torch.equal(contents.attack.trigger.mask, made.trigger().mask)
    assert contents.rounds == made.rounds()
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


def test_a_torn_line_is_passed_over(made: Any, folder: Path) -> None:
    file = folder / "rounds.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert read_folder(folder).rounds == made.rounds()[:-1]


@pytest.mark.parametrize("kept", [True, False])
def test_an_evaluation_is_read_as_it_was_written(made: Any, tmp_path: Path, kept: bool) -> None:
    trigger = made.trigger() if kept else None
    written = AttackEvaluation("sba", 3, trigger, accuracy_before=0.875, asr_before=1.0, num_images=50)
    write_evaluation(tmp_path, written)
    read = read_folder(tmp_path).attack
    assert read is not None
    assert vars(read) | {"trigger": None} == vars(written) | {"trigger": None}
    assert (read.trigger is not None) == kept
    if read.trigger is not None:
        assert torch.equal(read.trigger.mask, made.trigger().mask)
        assert torch.equal(read.trigger.pattern, made.trigger().pattern)


def test_an_evaluation_without_a_trigger_leaves_the_simulations(made: Any, tmp_path: Path) -> None:
    save_trigger(made.trigger(), tmp_path / "planted_trigger.safetensors")
    write_evaluation(tmp_path, AttackEvaluation("sba", 3))
    attack = read_folder(tmp_path).attack
    assert attack is not None
    assert attack.trigger is not None


@pytest.mark.parametrize(
    "settings", [{}, {"title": "„Ü“"}, {"reference_round": 0, "suspect_round": 9}, {"suspect_round": 9}]
)
def test_page_settings_are_read_as_they_were_written(folder: Path, settings: dict[str, Any]) -> None:
    write_page_settings(folder, **settings)
    contents = read_folder(folder)
    assert contents.title == settings.get("title", f"Report on {folder.name}")
    assert contents.reference_round == settings.get("reference_round")
    assert contents.suspect_round == settings.get("suspect_round")


def test_what_cannot_be_written_is_an_error(made: Any, folder: Path) -> None:
    with pytest.raises(OutputError):
        write_evaluation(folder / "scan.json", made.attack())
    with pytest.raises(OutputError):
        write_page_settings(folder / "scan.json", title="x")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scan.json", b""),
        ("scan.json", b'{"verdict": "clean"}'),
        ("repair.json", b'{"outcome": "repaired", "reason": "", "surprise": 1}'),
        ("repair.json", b'{"outcome": "mended", "reason": ""}'),
        ("repair.json", b'{"outcome": '),
        ("evaluation.json", b'{"kind": "dba"}'),
        ("evaluation.json", b'{"kind": "dba", "target_class": 2, "trigger": {"mask": [], "pattern": []}}'),
        ("config.json", b"[1, 2]"),
        ("config.json", b"\xff\xfe"),
        ("report.json", b'{"titel": "x"}'),
        ("planted_trigger.safetensors", b"\xff" * 40),
        ("planted_trigger.safetensors", b""),
    ],
)
def test_a_damaged_file_is_one_clear_line(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises((DataError, CheckpointError)) as caught:
        read_folder(folder)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "advice"), [("scan.json", "scan again"), ("repair.json", "repair again")])
def test_a_truncated_result_is_one_clear_line(folder: Path, name: str, advice: str) -> None:
    text = (folder / name).read_text()
    (folder / name).write_text(text[: len(text) // 2])
    with pytest.raises(DataError, match=advice) as caught:
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
    with pytest.raises(CheckpointError, match=r"planted_trigger\.safetensors holds no"):
        read_folder(folder)


@pytest.mark.parametrize("name", ["scan.json", "rounds.jsonl", "planted_trigger.safetensors"])
def test_a_folder_in_a_files_place(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises((DataError, CheckpointError), match=name):
        read_folder(folder)


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected at least one of scan\.json, repair\.json"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        read_folder(tmp_path / "absent")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(DataError, match="nothing to report"):
        read_folder(tmp_path)
