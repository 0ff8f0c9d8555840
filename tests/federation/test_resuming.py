"""A run that is stopped at any moment goes on and ends with the same bits."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import noisy_parts
import pytest
import torch
from simulations import Killed, assert_same, busy, run, states, stopping_at, weights
from tiny_data import settings
from torch import nn

from every_moment import copied_at_every_moment
from fedmend.errors import ConfigError
from fedmend.federation import Client, ClientUpdate, RunFolder, Task


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of :func:`busy` that nothing interrupted."""
    return run(busy(), tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize(
    ("net", "round_number"),
    [*(("tiny_nets:conv", each) for each in range(4)), ("tiny_nets:linear", 2), ("tiny_nets:Viewed", 2)],
)
def test_stopped_between_rounds(tmp_path: Path, whole: RunFolder, net: str, round_number: int) -> None:
    expected = whole if net == "tiny_nets:conv" else run(busy(net), tmp_path / "whole")
    with pytest.raises(Killed):
        run(busy(net), tmp_path / "run", progress=stopping_at(round_number))
    assert RunFolder(tmp_path / "run").last_round() == round_number
    assert_same(run(busy(net), tmp_path / "run", resume=True), expected)


def test_stopped_after_every_round(tmp_path: Path, whole: RunFolder) -> None:
    for round_number in range(4):
        with pytest.raises(Killed):
            run(busy(), tmp_path, resume=round_number > 0, progress=stopping_at(round_number))
    assert_same(run(busy(), tmp_path, resume=True), whole)


NOISY: dict[str, Any] = {
    "model": {"architecture": "noisy_parts:Net"},
    "aggregation": {"kind": "noisy_parts:rule"},
    "attack": [{"trigger": {"kind": "noisy_parts:Trigger"}, "update": [{"kind": "noisy_parts:step"}]}],
}


def test_code_of_the_users_own_may_draw_from_any_global_generator(tmp_path: Path) -> None:
    """From that of Python, NumPy or torch."""
    expected = run(settings(**NOISY), tmp_path / "whole")
    with pytest.raises(Killed):
        run(settings(**NOISY), tmp_path / "run", progress=stopping_at(2))
    noisy_parts.noise()
    assert_same(run(settings(**NOISY), tmp_path / "run", resume=True), expected)
    other = run(settings(**NOISY, seed=6), tmp_path / "other")
    assert not torch.equal(*(weights(each.checkpoint(3)) for each in (other, expected)))


@pytest.mark.parametrize("stop", [1, 3, 4, 7])
def test_stopped_in_the_middle_of_a_clients_training(
    tmp_path: Path, whole: RunFolder, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    fit, fitted = Client.fit, 0

    def counting(client: Client, model: nn.Module, task: Task, seed: int) -> ClientUpdate:
        nonlocal fitted
        fitted += 1
        update = fit(client, model, task, seed)
        if fitted == stop:
            raise Killed
        return update

    with monkeypatch.context() as patched:
        patched.setattr(Client, "fit", counting)
        with pytest.raises(Killed):
            run(busy(), tmp_path)
    assert_same(run(busy(), tmp_path, resume=True), whole)


def finished(tmp_path: Path) -> RunFolder:
    return run(busy(), tmp_path / "run")


def edit_last_line(lines: Sequence[bytes]) -> bytes:
    return b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2]


@pytest.mark.parametrize("whose", ["server", "attacker"])
@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: b"".join(lines[:-1]),
        lambda lines: edit_last_line(lines),
        lambda lines: b"".join(lines)[:-1],
        lambda lines: b"".join(lines) + b'{"round":4,"acc',
        lambda lines: b"".join(lines[:1]),
        lambda lines: b"".join(lines[2:]),
        lambda lines: lines[0] + lines[3],
        lambda lines: b"",
    ],
    ids=["no last", "torn last", "no newline", "torn next", "first only", "none at first", "hole", "none"],
)
def test_lines_that_are_missing_or_torn_are_measured_again(
    tmp_path: Path, whole: RunFolder, edit: Callable[[list[bytes]], bytes], whose: str
) -> None:
    done = finished(tmp_path)
    file = (done.lines if whose == "server" else done.attacker.lines).path
    file.write_bytes(edit(file.read_bytes().splitlines(keepends=True)))
    assert_same(run(busy(), done.path, resume=True), whole)
    assert [json.loads(line)["round"] for line in file.read_bytes().splitlines()] == [0, 1, 2, 3]


def test_without_the_files_of_lines_all_are_measured_again(tmp_path: Path, whole: RunFolder) -> None:
    done = finished(tmp_path)
    done.lines.path.unlink()
    done.attacker.lines.path.unlink()
    assert_same(run(busy(), done.path, resume=True), whole)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_rounds_whose_checkpoints_are_gone_run_again(tmp_path: Path, whole: RunFolder, kept: int) -> None:
    done = finished(tmp_path)
    for number in range(kept + 1, 4):
        done.checkpoint(number).unlink()
    assert_same(run(busy(), done.path, resume=True), whole)


def test_killed_before_the_first_checkpoint(tmp_path: Path, whole: RunFolder) -> None:
    RunFolder.open(tmp_path, busy(), resume=False)
    assert_same(run(busy(), tmp_path, resume=True), whole)


def test_resuming_a_whole_run_changes_nothing(tmp_path: Path) -> None:
    done = finished(tmp_path)
    before = {file: file.read_bytes() for file in done.path.rglob("*.*") if file.is_file()}
    run(busy(), done.path, resume=True)
    assert {file: file.read_bytes() for file in done.path.rglob("*.*") if file.is_file()} == before


def test_more_rounds_later_are_the_same_as_all_at_once(tmp_path: Path, whole: RunFolder) -> None:
    shorter = {"clients": 4, "clients_per_round": 3, "rounds": 2}
    run(busy(federation=shorter), tmp_path)
    assert_same(run(busy(), tmp_path, resume=True), whole)


def test_momentum_is_carried_over(tmp_path: Path, whole: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the state of the aggregation rule a resumed run would end elsewhere."""
    with pytest.raises(Killed):
        run(busy(), tmp_path, progress=stopping_at(2))
    monkeypatch.setattr(RunFolder, "aggregator_state", lambda *_: {})
    forgetful = states(run(busy(), tmp_path, resume=True))
    name = "round-0003.safetensors"
    assert any(not forgetful[name][key].equal(value) for key, value in states(whole)[name].items())


def test_killed_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    config = settings(
        model={"architecture": "tiny_nets:conv"},
        federation={"clients": 4, "clients_per_round": 2, "rounds": 2},
        aggregation={"kind": "fedavgm"},
        attack=[{"attackers": 1}],
    )
    with copied_at_every_moment(tmp_path / "expected", tmp_path / "killed"):
        expected = run(config, tmp_path / "expected")
    killed = sorted((tmp_path / "killed").iterdir())
    assert len(killed) > 30
    progress = [RunFolder(path).last_round() for path in killed]
    assert set(progress) == {None, 0, 1, 2}
    for path in killed:
        assert_same(run(config, path, resume=True), expected)


# Refusals


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    run(settings(), tmp_path)
    before = states(RunFolder(tmp_path))
    with pytest.raises(ConfigError, match="already holds a run"):
        run(settings(), tmp_path)
    assert list(states(RunFolder(tmp_path))) == list(before)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 6},
        {"training": {"lr": 0.06}},
        {"federation": {"clients": 5}},
        {"aggregation": {"kind": "uniform"}},
        {"data": {"partition": "dirichlet"}},
        {"attack": [{}]},
        {"model": {"architecture": "tiny_nets:conv"}},
    ],
)
def test_other_settings_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    run(settings(), tmp_path)
    with pytest.raises(ConfigError, match="can't resume"):
        run(settings(**changes), tmp_path, resume=True)
    assert RunFolder(tmp_path).config() == settings()
