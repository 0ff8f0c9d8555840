import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fedmend.checkpoints import read_state
from fedmend.errors import ConfigError, OutputError
from fedmend.federation import (
    AttackConfig,
    RoundRecord,
    RunFolder,
    SimulationConfig,
    parse_config,
    simulated_config,
)

CONFIG = SimulationConfig(seed=3)
ATTACKED = replace(
    CONFIG, attack=(AttackConfig(first_round=3, update=({"kind": "amplify", "factor": 2.0},)),)
)


def start(path: Path, **settings: Any) -> RunFolder:
    return RunFolder.open(path, parse_config(settings), resume=False)


def record(number: int, **changes: Any) -> RoundRecord:
    values: dict[str, Any] = {
        "round": number,
        "accuracy": 1 / 3,
        "clients": (0, 2),
        "seconds": 0.1 + 0.2,
    }
    return RoundRecord(**(values | changes))


def with_rounds(path: Path, count: int, **settings: Any) -> RunFolder:
    run = start(path, **settings)
    for number in range(count):
        run.save_round(number, nn.Linear(2, 2))
        run.lines.append(record(number))
    return run


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_new_run_holds_its_settings(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "a" / "run", CONFIG, resume=False)
    assert run.config() == simulated_config(run) == CONFIG
    assert sorted(files(run.path)) == ["config.json", "digests.jsonl"]
    assert run.last_round() is None
    assert run.records() == ()


def test_the_server_s_settings_hold_no_attack(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, ATTACKED, resume=False)
    assert sorted(files(tmp_path)) == [
        "attacker/attacks.json",
        "attacker/digests.jsonl",
        "config.json",
        "digests.jsonl",
    ]
    assert simulated_config(run) == ATTACKED
    assert run.config() == replace(ATTACKED, attack=())
    text = run.config_file.read_text() + run.digests.path.read_text()
    assert all(word not in text for word in ("attack", "trigger", "amplify"))
    run.save_round(1, nn.Linear(2, 2))
    with pytest.raises(ConfigError, match=r"attack.1.attackers was 1, now None, .* and 12 more"):
        RunFolder.open(tmp_path, CONFIG, resume=True)


def test_an_honest_run_is_not_begun_with_an_attack_that_was_left_there(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, ATTACKED, resume=False)
    (tmp_path / "config.json").unlink()  # as if killed before it was written
    assert simulated_config(RunFolder.open(tmp_path, CONFIG, resume=False)) == CONFIG


def test_the_state_of_the_aggregation_rule_is_beside_the_checkpoint(tmp_path: Path) -> None:
    run, state = start(tmp_path), {"velocity": torch.randn(6), "rounds": torch.tensor(3)}
    run.save_round(1, nn.Linear(2, 2), state)
    run.save_round(2, nn.Linear(2, 2))
    assert sorted(files(tmp_path / "checkpoints")) == [
        "round-0001.safetensors",
        "round-0001.state.safetensors",
        "round-0002.safetensors",
    ]
    back = run.aggregator_state(1)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())
    assert run.aggregator_state(2) == {}
    assert run.last_round() == 2
    run.save_round(1, nn.Linear(2, 2))
    assert run.aggregator_state(1) == {}


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
    kept = [record(0, seconds=None, clients=()), record(1, accuracy=0.1 + 0.2), record(2)]
    for each in kept:
        run.lines.append(each)
    assert run.records() == tuple(kept)
    lines = [json.loads(line) for line in run.lines.path.read_text().splitlines()]
    assert [line["round"] for line in lines] == [0, 1, 2]
    assert set(lines[0]) == {"round", "accuracy", "clients", "seconds", "refused"}


@pytest.mark.parametrize(
    "torn", [b"{", b'{"round":2,"accur', b"\xff\xfe", b'{"round":2}\n', b"[]\n", b"\n\n"]
)
def test_a_torn_line_is_passed_over_and_dropped_on_resuming(tmp_path: Path, torn: bytes) -> None:
    run = with_rounds(tmp_path, 2)
    whole = run.lines.path.read_bytes()
    run.lines.path.write_bytes(whole + torn)
    assert run.records() == (record(0), record(1))
    again = RunFolder.open(tmp_path, run.config(), resume=True)
    assert again.lines.path.read_bytes() == whole


def test_the_later_of_two_lines_for_a_round_counts(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.lines.append(record(1))
    run.lines.append(record(0))
    run.lines.append(record(1, accuracy=0.5))
    assert run.records() == (record(0), record(1, accuracy=0.5))


def test_lines_of_rounds_whose_checkpoint_is_gone_are_dropped_on_resuming(tmp_path: Path) -> None:
    run = with_rounds(tmp_path, 4)
    run.checkpoint(3).unlink()
    run.checkpoint(2).unlink()
    again = RunFolder.open(tmp_path, run.config(), resume=True)
    assert again.records() == (record(0), record(1))


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    with_rounds(tmp_path, 2)
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=r"already holds a run; resume it \(--resume\) or choose"):
        start(tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_without_a_round_is_started_over(tmp_path: Path, resume: bool) -> None:
    run = RunFolder.open(tmp_path, ATTACKED, resume=False)
    run.save_round(0, nn.Linear(2, 2), {"velocity": torch.ones(2)})
    run.lines.append(record(0))
    for name in ("rounds.jsonl", "trigger-0.safetensors", "example-1.safetensors"):
        (tmp_path / "attacker" / name).write_bytes(b"")
    other = replace(CONFIG, seed=9)
    assert simulated_config(RunFolder.open(tmp_path, other, resume=resume)) == other
    assert sorted(files(tmp_path)) == ["config.json", "digests.jsonl"]
    assert list(RunFolder(tmp_path).digests.known()) == ["config.json"]


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_began_at_a_later_round_is_one_only_after_it(tmp_path: Path, resume: bool) -> None:
    run = start(tmp_path, model={"start": "a.safetensors", "start_round": 7})
    run.save_round(7, nn.Linear(2, 2))
    assert RunFolder.open(tmp_path, run.config(), resume=resume).last_round() is None
    run.save_round(8, nn.Linear(2, 2))
    with pytest.raises(ConfigError, match=r"already holds a run|other settings"):
        RunFolder.open(tmp_path, CONFIG, resume=resume)
    assert run.last_round() == 8


def test_a_run_whose_checkpoints_were_removed_is_still_one(tmp_path: Path) -> None:
    run = with_rounds(tmp_path, 3)
    for number in range(3):
        run.checkpoint(number).unlink()
    with pytest.raises(ConfigError, match="already holds a run"):
        start(tmp_path)
    assert len(run.records()) == 3


def test_a_folder_with_another_programs_settings_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": []}')
    with pytest.raises(ConfigError, match="already holds a run"):
        start(tmp_path)
    assert files(tmp_path) == {"config.json": b'{"architectures": []}'}


@pytest.mark.parametrize("resume", [False, True])
def test_rounds_without_settings_are_no_run_to_go_on_with(tmp_path: Path, resume: bool) -> None:
    with_rounds(tmp_path, 2)
    (tmp_path / "config.json").unlink()
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=r"already holds a run|there is no config.json"):
        RunFolder.open(tmp_path, CONFIG, resume=resume)
    assert files(tmp_path) == before


def test_resuming_where_nothing_is_starts_a_run(tmp_path: Path) -> None:
    assert RunFolder.open(tmp_path / "new", CONFIG, resume=True).config() == CONFIG


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    shapes = [[{"trigger": {"kind": "atoms", "shape": shape}}] for shape in "H+"]
    with_rounds(tmp_path, 2, seed=1, attack=shapes[0])
    before = files(tmp_path)
    changed = parse_config({"seed": 2, "attack": shapes[1]})
    with pytest.raises(ConfigError) as caught:
        RunFolder.open(tmp_path, changed, resume=True)
    assert "attack.1.trigger.shape was 'H', now '+', seed was 1, now 2" in str(caught.value)
    assert files(tmp_path) == before


def test_more_rounds_are_allowed_and_fewer_are_not(tmp_path: Path) -> None:
    with_rounds(tmp_path, 2, federation={"rounds": 20})
    more = parse_config({"federation": {"rounds": 25}})
    assert RunFolder.open(tmp_path, more, resume=True).config() == more
    with pytest.raises(ConfigError, match=r"fewer rounds \(20\) than before \(25\)"):
        RunFolder.open(tmp_path, parse_config({"federation": {"rounds": 20}}), resume=True)


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
            run.lines.append(record(1))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match="No space left"):
            run.save_round(1, nn.Linear(2, 2))
    assert run.last_round() == 0
    assert run.records() == (record(0),)
    assert sorted(file.name for file in tmp_path.rglob("*.tmp")) == []
