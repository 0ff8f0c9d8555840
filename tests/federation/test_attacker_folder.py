"""What attackers know is kept apart, and a defence that reads a run opens none of it."""

import json
from pathlib import Path

import pytest
import torch
from simulations import busy, run
from tiny_data import image_set
from tiny_nets import conv

from fedmend.checkpoints import load_checkpoint, read_state
from fedmend.errors import ConfigError
from fedmend.federation import AttackConfig, AttackerFolder, AttackRecord, RunFolder, simulated_config
from fedmend.triggers import Atoms, Patch, Sinusoid

ATTACKS = (AttackConfig(), AttackConfig(first_round=2, trigger={"kind": "sinusoid"}))


def test_attacks_come_back(tmp_path: Path) -> None:
    folder = AttackerFolder(tmp_path / "attacker")
    assert folder.attacks() == ()
    folder.save_attacks(ATTACKS)
    assert folder.attacks() == ATTACKS
    folder.save_attacks(())
    assert folder.attacks() == ()


def test_a_patch_is_kept_and_another_trigger_is_shown_on_an_image(tmp_path: Path) -> None:
    folder, drawing = AttackerFolder(tmp_path), Atoms("+", (1, 8, 16))
    image = image_set(4).images[2]
    for index, trigger in enumerate((drawing, Patch(drawing.patch.mask, drawing.patch.pattern), Sinusoid())):
        folder.save_trigger(index, trigger, image)
    for index in (0, 1):
        kept = folder.trigger(index)
        assert kept is not None
        assert torch.equal(kept.mask, drawing.patch.mask)
    assert folder.trigger(2) is None
    example = read_state(tmp_path / "example-2.safetensors")
    assert torch.equal(example["clean"], image / 255)
    assert torch.equal(example["stamped"], Sinusoid().apply(image[None] / 255)[0])


@pytest.mark.parametrize(
    "content", [b"", b"{", b"3", b"\xff", b'[{"first_rund": 1}]', b'[{"chosen": "last"}]']
)
def test_damaged_attacks_are_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "attacks.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"attacks.json"):
        AttackerFolder(tmp_path).attacks()


def test_the_attackers_lines(tmp_path: Path) -> None:
    folder = AttackerFolder(tmp_path / "attacker")
    records = (AttackRecord(0, (), (0.0, 0.5)), AttackRecord(1, (0, 3), (1.0, 0.25)))
    for record in reversed(records):
        folder.lines.append(record)
    assert folder.records() == records
    lines = [json.loads(line) for line in folder.lines.path.read_text().splitlines()]
    assert lines[0] == {"round": 1, "attackers": [0, 3], "asr": [1.0, 0.25]}


def test_a_defence_reads_a_run_without_what_attackers_know(tmp_path: Path, opened: list[str]) -> None:
    done = run(busy(), tmp_path / "run")
    assert sorted(path.name for path in done.attacker.path.iterdir()) == [
        "attacks.json",
        "digests.jsonl",
        "rounds.jsonl",
        "trigger-0.safetensors",
    ]
    opened.clear()
    found = RunFolder(done.path)
    config, model = found.config(), conv(4, 1, (8, 16))
    assert config.attack == ()
    for record in found.records():
        load_checkpoint(found.checkpoint(record.round), model)
        found.aggregator_state(record.round)
    assert found.last_round() == config.federation.rounds == 3
    within = {
        Path(path).relative_to(done.path).parts[0] for path in opened if path.startswith(f"{done.path}/")
    }
    assert within == {"config.json", "rounds.jsonl", "checkpoints"}
    simulated_config(found)
    assert any(path.startswith(f"{done.attacker.path}/") for path in opened)  # what would have been noticed


def test_what_a_defence_reads_names_no_attack(tmp_path: Path) -> None:
    done = run(busy(), tmp_path / "run")
    for file in (done.config_file, done.lines.path):
        text = file.read_text()
        assert all(word not in text for word in ("attack", "asr", "trigger", "goal"))
