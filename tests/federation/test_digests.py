"""A run that others changed is noticed when it is resumed, and what was changed is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from simulations import assert_same, busy, run
from tiny_nets import conv

from fedmend.checkpoints import save_state
from fedmend.errors import ConfigError, OutputError
from fedmend.federation import RunFolder
from fedmend.federation.digests import Digests

Edit = Callable[[RunFolder], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run(busy(), tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def copied(whole: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(whole.path, tmp_path / "run")))


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def edit_a_line(file: Path) -> None:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[2] |= {"accuracy": 0.123} if "accuracy" in lines[2] else {"asr": [0.123]}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def plant_a_line(done: RunFolder) -> None:
    with done.lines.path.open("a") as file:
        file.write('{"round": 1, "accuracy": 0.5, "clients": [0], "seconds": 1.0}\n')


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda done: flip_a_bit(done.checkpoint(3)), "round-0003.safetensors .changed"),
        (lambda done: flip_a_bit(done.checkpoint(1)), "round-0001.safetensors .changed"),
        (
            lambda done: save_state(conv(4, 1, (8, 16)).state_dict(), done.checkpoint(3)),
            "round-0003.safetensors .changed",
        ),
        (lambda done: shutil.copy(done.checkpoint(1), done.checkpoint(3)), "round-0003.safetensors .changed"),
        (
            lambda done: shutil.copy(done.checkpoint(3), done.checkpoint(9)),
            "round-0009.safetensors .not written by this run",
        ),
        (lambda done: flip_a_bit(done._state_file(3)), "round-0003.state.safetensors .changed"),
        (lambda done: done._state_file(3).unlink(), "round-0003.state.safetensors .missing"),
        (lambda done: edit(done.config_file, '"lr": 0.01', '"lr": 0.02'), "config.json .changed"),
        (lambda done: edit(done.config_file, '"rounds": 3', '"rounds": 2'), "config.json .changed"),
        (lambda done: edit_a_line(done.lines.path), "rounds.jsonl round 2 .changed"),
        (plant_a_line, "rounds.jsonl round 1 .changed"),
        (lambda done: edit_a_line(done.attacker.lines.path), "rounds.jsonl round 2 .changed"),
        (
            lambda done: edit(done.attacker.path / "attacks.json", '"first_round": 2', '"first_round": 3'),
            "attacks.json .changed",
        ),
        (lambda done: done.digests.path.unlink(), "digests.jsonl is missing"),
        (lambda done: done.attacker.digests.path.unlink(), "digests.jsonl is missing"),
        (lambda done: done.digests.path.write_bytes(b"{"), "not written by this run"),
    ],
)
def test_what_others_changed_is_named(copied: RunFolder, change: Edit, named: str) -> None:
    change(copied)
    before = {file: file.read_bytes() for file in copied.path.rglob("*.*") if file.is_file()}
    with pytest.raises(ConfigError, match=named):
        run(busy(), copied.path, resume=True)
    assert {file: file.read_bytes() for file in copied.path.rglob("*.*") if file.is_file()} == before


def test_many_changes_are_one_short_line(copied: RunFolder) -> None:
    for file in (copied.path / "checkpoints").iterdir():
        flip_a_bit(file)
    with pytest.raises(ConfigError, match=r"round-0000\.safetensors .* and \d more; restore it"):
        copied.check()


def test_a_run_of_an_earlier_version_can_be_accepted_as_it_is(copied: RunFolder, whole: RunFolder) -> None:
    copied.digests.path.unlink()
    copied.attacker.digests.path.unlink()
    copied.accept()
    copied.check()
    copied.attacker.check()
    assert_same(run(busy(), copied.path, resume=True), whole)
    flip_a_bit(copied.checkpoint(2))
    with pytest.raises(ConfigError, match="round-0002"):
        copied.check()


def test_a_torn_line_costs_no_other(tmp_path: Path) -> None:
    digests = Digests(tmp_path / "digests.jsonl")
    digests.record("a", b"1")
    with digests.path.open("ab") as file:
        file.write(b'{"name": "b", "sha')
    digests.record("c", b"3")
    assert list(digests.known()) == ["a", "c"]
    digests.check([("a", b"1"), ("c", b"3"), ("d", None)])


def test_two_in_one_folder_are_one_clear_error(copied: RunFolder) -> None:
    with copied.locked(), pytest.raises(OutputError, match=r"another fedmend is training in .*/run; wait"):
        run(busy(), copied.path, resume=True)
    run(busy(), copied.path, resume=True)


def test_what_a_killed_run_left_is_removed(copied: RunFolder) -> None:
    left = [
        folder / ".round-0009.safetensors.abc.tmp" for folder in (copied.path, copied.path / "checkpoints")
    ]
    for file in left:
        file.touch()
    run(busy(), copied.path, resume=True)
    assert not any(file.exists() for file in left)
