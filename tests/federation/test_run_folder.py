import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fedmend.checkpoints import read_state, read_trigger
from fedmend.errors import ConfigError, OutputError
from fedmend.federation import RoundRecord, RunFolder, SimulationConfig, parse_config
from fedmend.triggers import Atoms

CONFIG = SimulationConfig(seed=3)


def start(path: Path, **settings: Any) -> RunFolder:
    return RunFolder.open(path, parse_config(settings), None, resume=False)


def record(number: int, **changes: Any) -> RoundRecord:
    values: dict[str, Any] = {
        "round": number,
        "accuracy": 1 / 3,
        "asr": None,
        "clients": (0, 2),
        "attackers": (),
        "seconds": 0.1 + 0.2,
    }
    return RoundRecord(**(values | changes))


def with_rounds(path: Path, count: int) -> RunFolder:
    run = start(path)
    for number in range(count):
        run.save_round(number, nn.Linear(2, 2))
        run.append(record(number))
    return run


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_new_run_holds_its_settings_and_its_trigger(tmp_path: Path) -> None:
    planted = Atoms("+", (1, 28, 28)).patch
    run = RunFolder.open(tmp_path / "a" / "run", CONFIG, planted, resume=False)
    assert run.config() == CONFIG
    assert sorted(files(run.path)) == ["config.json", "planted_trigger.safetensors"]
    assert torch.equal(read_trigger(run.path / "planted_trigger.safetensors").mask, planted.mask)
    assert run.last_round() is None
    assert run.records() == ()


def test_checkpoints_are_numbered_and_the_newest_is_found(tmp_path: Path) -> None:
    run, model = start(tmp_path), nn.Linear(2, 2)
    for number in (0, 9, 10, 10000):
        run.save_round(number, model)
    assert run.checkpoint(9) == tmp_path / "checkpoints" / "round-0009.safetensors"
    assert run.last_round() == 10000
    assert torch.equal(read_state(run.checkpoint(10))["weight"], model.weight)


def test_half_written_checkpoints_do_not_count(tmp_path: Path) -> None:
    run = with_rounds(tmp_path, 2)
    (tmp_path / "checkpoints" / ".round-0002.safetensors.abc.tmp").write_bytes(b"half")
    (tmp_path / "checkpoints" / "round-0003.safetensors.part").write_bytes(b"half")
    assert run.last_round() == 1


def test_records_survive_exactly(tmp_path: Path) -> None:
    run = start(tmp_path)
    kept = [record(0, seconds=None, clients=()), record(1, asr=0.1 + 0.2, attackers=(0,)), record(2)]
    for each in kept:
        run.append(each)
    assert run.records() == tuple(kept)
    lines = [json.loads(line) for line in run.records_file.read_text().splitlines()]
    assert [line["round"] for line in lines] == [0, 1, 2]
    assert set(lines[0]) == {"round", "accuracy", "asr", "clients", "attackers", "seconds"}


@pytest.mark.parametrize(
    "torn", [b"{", b'{"round":2,"accur', b"\xff\xfe", b'{"round":2}\n', b"[]\n", b"\n\n"]
)
def test_a_torn_line_is_passed_over_and_dropped_on_resuming(tmp_path: Path, torn: bytes) -> None:
    run = with_rounds(tmp_path, 2)
    whole = run.records_file.read_bytes()
    run.records_file.write_bytes(whole + torn)
    assert run.records() == (record(0), record(1))
    again = RunFolder.open(tmp_path, run.config(), None, resume=True)
    assert again.records_file.read_bytes() == whole


def test_the_later_of_two_lines_for_a_round_counts(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.append(record(1))
    run.append(record(0))
    run.append(record(1, accuracy=0.5))
    assert run.records() == (record(0), record(1, accuracy=0.5))


def test_lines_of_rounds_whose_checkpoint_is_gone_are_dropped_on_resuming(tmp_path: Path) -> None:
    run = with_rounds(tmp_path, 4)
    run.checkpoint(3).unlink()
    run.checkpoint(2).unlink()
    again = RunFolder.open(tmp_path, run.config(), None, resume=True)
    assert again.records() == (record(0), record(1))


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    with_rounds(tmp_path, 2)
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=r"already holds a run; resume it \(--resume\) or choose"):
        start(tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("resume", [False, True])
def test_rounds_without_settings_are_no_run_to_go_on_with(tmp_path: Path, resume: bool) -> None:
    with_rounds(tmp_path, 2)
    (tmp_path / "config.json").unlink()
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=r"already holds a run|can't read config.json"):
        RunFolder.open(tmp_path, CONFIG, None, resume=resume)
    assert files(tmp_path) == before


def test_resuming_where_nothing_is_starts_a_run(tmp_path: Path) -> None:
    assert RunFolder.open(tmp_path / "new", CONFIG, None, resume=True).config() == CONFIG


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    start(tmp_path, seed=1, attack={"shape": "H"})
    before = files(tmp_path)
    changed = parse_config({"seed": 2, "attack": {"shape": "+"}})
    with pytest.raises(ConfigError) as caught:
        RunFolder.open(tmp_path, changed, None, resume=True)
    assert "attack.shape was 'H', now '+', seed was 1, now 2" in str(caught.value)
    assert files(tmp_path) == before
    with pytest.raises(ConfigError, match=r"attack.* was"):
        RunFolder.open(tmp_path, parse_config({"seed": 1}), None, resume=True)


def test_more_rounds_are_allowed_and_fewer_are_not(tmp_path: Path) -> None:
    start(tmp_path, federation={"rounds": 20})
    more = parse_config({"federation": {"rounds": 25}})
    assert RunFolder.open(tmp_path, more, None, resume=True).config() == more
    with pytest.raises(ConfigError, match=r"fewer rounds \(20\) than before \(25\)"):
        RunFolder.open(tmp_path, parse_config({"federation": {"rounds": 20}}), None, resume=True)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff", b'{"sede": 1}', b'{"seed": "1"}'])
def test_damaged_settings_are_one_clear_error(tmp_path: Path, content: bytes) -> None:
    start(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        RunFolder(tmp_path).config()
    assert "config.json" in str(caught.value)


def test_a_folder_without_a_run_is_one_clear_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError, match="holds no run"):
            RunFolder(path).config()


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="can't write"):
        start(tmp_path / "taken")
    with pytest.raises(OutputError, match="can't write"):
        start(tmp_path / "taken" / "run")


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = with_rounds(tmp_path, 1)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.raises(OutputError, match=r"rounds.jsonl: No space left"):
            run.append(record(1))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match="No space left"):
            run.save_round(1, nn.Linear(2, 2))
    assert run.last_round() == 0
    assert run.records() == (record(0),)
    assert sorted(file.name for file in tmp_path.rglob("*.tmp")) == []
