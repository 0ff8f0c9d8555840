from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fedmend.checkpoints import save_trigger
from fedmend.errors import CheckpointError, DataError
from fedmend.files import write_together
from fedmend.pages import (
    AttackedRound,
    AttackEvaluation,
    evaluation_file,
    prune_evaluation_file,
    read_folder,
    render,
)

ATTACKS = [
    {
        "trigger": {"kind": "atoms", "shape": "+"},
        "goal": {"kind": "all-to-one", "target": 2},
        "first_round": 7,
    },
    {
        "trigger": {"kind": "sinusoid"},
        "goal": {"kind": "all-to-one", "target": 1},
        "first_round": 5,
        "attackers": 3,
    },
]
IMAGE = torch.zeros(1, 4, 4)


@pytest.fixture
def folder(made: Any, tmp_path: Path) -> Path:
    """A run with two attacks and a repair by pruning."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "repair.json").write_text(made.pruned().to_json())
    secret = tmp_path / "attacker"
    secret.mkdir()
    (secret / "attacks.json").write_text(json.dumps(ATTACKS))
    save_trigger(made.trigger(), secret / "trigger-0.safetensors")
    save_file({"clean": IMAGE, "stamped": IMAGE + 1}, secret / "example-1.safetensors")
    (secret / "rounds.jsonl").write_text(
        '{"round": 2, "attackers": [], "asr": [0.1, 0.2]}\n{"round": 1, "attackers": [4], "asr": [0.3, 0.4]}\n{"rou'
    )
    texts = evaluation_file(made.evaluation()) | prune_evaluation_file(made.prune_evaluation())
    write_together(tmp_path, {name: text for name, text in texts.items() if text is not None})
    return tmp_path


def test_everything_is_gathered(made: Any, folder: Path) -> None:
    contents = read_folder(folder)
    first, second = contents.attacks
    assert [first.settings, second.settings] == ATTACKS
    assert first.patch is not None
    assert torch.equal(first.patch.mask, made.trigger().mask)
    assert first.example is second.patch is None
    assert second.example is not None
    assert torch.equal(second.example[1], IMAGE + 1)
    assert contents.first_attack_round == 5
    assert contents.attacked_rounds == (AttackedRound(1, (4,), (0.3, 0.4)), AttackedRound(2, (), (0.1, 0.2)))
    assert contents.evaluation == made.evaluation()
    assert contents.prune_evaluation == made.prune_evaluation()
    assert "Unknown to the defender" in render(contents)


def test_all_of_it_is_in_the_attackers_folder(folder: Path) -> None:
    assert {each.name for each in folder.iterdir()} == {"attacker", "config.json", "repair.json"}


def test_an_evaluation_of_a_model_that_was_not_repaired(folder: Path) -> None:
    written = AttackEvaluation(50, 0.875, (1.0, 0.5))
    write_together(folder, evaluation_file(written))
    assert read_folder(folder).evaluation == written


def test_none_removes_an_earlier_repairs_evaluation(folder: Path) -> None:
    pending = prune_evaluation_file(None)
    assert read_folder(folder, pending).prune_evaluation is None
    write_together(folder, {}, remove=pending)
    assert read_folder(folder).prune_evaluation is None


def test_another_repair_has_no_use_for_a_prune_evaluation(made: Any, folder: Path) -> None:
    (folder / "repair.json").write_text(made.repair().to_json())
    assert read_folder(folder).prune_evaluation is None
    (folder / "repair.json").unlink()
    assert read_folder(folder).prune_evaluation is None


def test_what_is_about_to_be_written_counts_as_written(made: Any, folder: Path) -> None:
    other = AttackEvaluation(50, 0.875, (1.0, 0.5))
    contents = read_folder(folder, evaluation_file(other))
    assert (contents.evaluation, contents.prune_evaluation) == (other, made.prune_evaluation())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"asr_along": ((0.5,),)}, "asr_along has 1 values, but the pruning has 6 testing points"),
        ({"accuracy": ()}, "accuracy has 0 values, but the pruning has 5 stages"),
        ({"asr": ((0.5,),) * 6}, "asr has 6 values, but the pruning has 5 stages"),
        (
            {"asr": ((0.5, 0.5),) * 5},
            r"expected one success rate for each attack, everywhere as many; got \[1, 2\]",
        ),
        ({"asr": ((),) * 5, "asr_along": ((),) * 6}, r"everywhere as many; got \[0\]"),
    ],
)
def test_an_evaluation_of_another_pruning(
    made: Any, folder: Path, change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(DataError, match=rf"prune_evaluation\.json doesn't match .*{complaint}"):
        read_folder(folder, prune_evaluation_file(made.prune_evaluation(**change)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("attacks.json", b""),
        ("attacks.json", b'{"trigger": {}}'),
        ("attacks.json", b"[1]"),
        ("attacks.json", b"\xff\xfe"),
        ("evaluation.json", b'{"num_images": 5}'),
        ("evaluation.json", b'{"num_images": 0, "accuracy_before": 0.5, "asr_before": []}'),
        ("evaluation.json", b'{"num_images": 5, "accuracy_before": 0.5, "asr_before": [1.5]}'),
        ("prune_evaluation.json", b'{"surprise": 1}'),
        ("prune_evaluation.json", b'{"asr": '),
        ("trigger-0.safetensors", b"\xff" * 40),
        ("trigger-0.safetensors", b""),
        ("example-1.safetensors", b"\xff" * 40),
    ],
)
def test_a_damaged_file_is_one_clear_line(folder: Path, name: str, content: bytes) -> None:
    (folder / "attacker" / name).write_bytes(content)
    with pytest.raises((DataError, CheckpointError)) as caught:
        read_folder(folder)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        ("trigger-0.safetensors", {"mask": IMAGE}),
        ("trigger-0.safetensors", {"mask": IMAGE, "pattern": torch.full((1, 4, 4), float("nan"))}),
        ("trigger-0.safetensors", {"mask": IMAGE, "pattern": torch.zeros(1, 5, 5)}),
        ("example-1.safetensors", {"clean": IMAGE}),
        ("example-1.safetensors", {"clean": IMAGE, "stamped": torch.zeros(4, 4)}),
    ],
)
def test_tensors_that_are_no_trigger_and_no_example(
    folder: Path, name: str, tensors: dict[str, torch.Tensor]
) -> None:
    save_file(tensors, folder / "attacker" / name)
    with pytest.raises(CheckpointError, match=rf"{name} holds no"):
        read_folder(folder)


@pytest.mark.parametrize(
    "settings", [{}, {"goal": 3, "trigger": "x", "first_round": "soon", "attackers": [1]}]
)
def test_settings_of_any_shape_are_shown(folder: Path, settings: dict[str, Any]) -> None:
    (folder / "attacker" / "attacks.json").write_text(json.dumps([settings]))
    contents = read_folder(folder)
    assert contents.first_attack_round is None
    assert render(contents)
