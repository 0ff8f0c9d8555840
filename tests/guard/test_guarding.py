"""A guard in simulated federations: ``[guard]`` in the settings."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import guarded_federation
import pytest
from guarded_federation import config, data
from torch import nn

from fedmend.checkpoints import read_state
from fedmend.errors import ConfigError, DataError
from fedmend.federation import Execution, Reviewed, RunFolder, SimulationConfig, simulate
from fedmend.guard import History, digest, guarded


class Killed(BaseException):
    """What a test throws to stop a run."""


def run(settings: SimulationConfig, out: Path, stop_at: int | None = None, **options: Any) -> RunFolder:
    def progress(stage: str, done: int, total: int) -> None:
        if done == stop_at:
            raise Killed

    review = guarded(settings, out, data()[1])
    return simulate(
        settings, out, data=data(), review=review, execution=Execution(progress=progress), **options
    )


def decided(done: RunFolder) -> list[dict[str, Any]]:
    """The guard's lines but for their times, and the digests that depend on them."""
    kept = ("round", "action", "verdict", "reason", "stop", "evidence", "stored")
    lines = map(json.loads, (done.guard / "decisions.jsonl").read_text().splitlines())
    return [{key: line[key] for key in kept} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run(config(), tmp_path_factory.mktemp("whole") / "run")


def test_the_records_hold_each_round_s_decision_and_both_success_rates(whole: RunFolder) -> None:
    assert [each.decision for each in whole.records()] == [None, "accept", "accept", "rollback", "rollback"]
    first, *_, last = whole.attacker.records()
    assert first.candidate_asr is None
    assert last.candidate_asr is not None
    assert last.candidate_asr[0] > last.asr[0] + 0.3


def test_a_rollback_brings_back_the_model_and_the_rule_s_state(whole: RunFolder) -> None:
    """Momentum would bring the rejected update back."""
    second, third, fourth = (read_state(whole.checkpoint(number)) for number in (2, 3, 4))
    assert digest(second) == digest(third) == digest(fourth)
    assert whole.aggregator_state(2).keys() == whole.aggregator_state(3).keys() != set()
    assert digest(whole.aggregator_state(2)) == digest(whole.aggregator_state(3))


@pytest.mark.parametrize("round_number", [0, 1, 2, 3])
def test_a_resumed_run_decides_the_same(tmp_path: Path, whole: RunFolder, round_number: int) -> None:
    with pytest.raises(Killed):
        run(config(), tmp_path, stop_at=round_number)
    done = run(config(), tmp_path, resume=True)
    assert decided(done) == decided(whole)
    for number in range(5):
        assert digest(read_state(done.checkpoint(number))) == digest(read_state(whole.checkpoint(number)))


def test_killed_between_the_decision_and_its_use(
    tmp_path: Path, whole: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = RunFolder.save_round

    def die_in_round_3(folder: RunFolder, number: int, *rest: Any) -> None:
        if number == 3:
            raise Killed
        save(folder, number, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "save_round", die_in_round_3)
        with pytest.raises(Killed):
            run(config(), tmp_path)
    assert History(RunFolder(tmp_path).guard).read()[0].last_round == 3
    assert decided(run(config(), tmp_path, resume=True)) == decided(whole)


def test_a_run_whose_history_is_gone_is_refused(tmp_path: Path) -> None:
    import shutil

    with pytest.raises(Killed):
        run(config(), tmp_path, stop_at=2)
    shutil.rmtree(tmp_path / "guard")
    with pytest.raises(DataError, match=r"history .*guard is missing, though the run has rounds"):
        run(config(), tmp_path, resume=True)


def test_a_run_that_never_had_a_round_starts_over_with_its_history(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(config(), tmp_path, stop_at=0)
    (tmp_path / "guard").mkdir(exist_ok=True)
    (tmp_path / "guard" / "manifest.json").write_text("left by another run")
    assert run(config(seed=9), tmp_path).last_round() == 4


def test_the_guard_opens_nothing_that_only_the_attacker_knows(tmp_path: Path, opened: list[str]) -> None:
    by_guard: list[str] = []
    review = guarded(config(), tmp_path, data()[1])

    def watched(candidate: nn.Module, number: int) -> nn.Module | Reviewed:
        opened.clear()
        reviewed = review(candidate, number)
        by_guard.extend(opened)
        return reviewed

    done = simulate(config(), tmp_path, data=data(), review=watched)
    assert (done.path / "attacker" / "attacks.json").exists()
    assert any("manifest.json" in name for name in by_guard)
    assert not any("attacker" in name for name in by_guard)


def test_settings_with_a_guard_need_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"table \[guard\].*pass review=guarded\(config, out\)"):
        simulate(config(), tmp_path, data=data())
    with pytest.raises(ConfigError, match=r"expected settings with a table \[guard\]"):
        guarded(replace(config(), guard=None), tmp_path)
    with pytest.raises(ConfigError, match=r"\[guard\] evry: did you mean every"):
        guarded(config(guard={"evry": 2}), tmp_path)


def test_an_attack_from_round_1_finds_nothing_trusted(tmp_path: Path) -> None:
    done = run(config(guard={"warm_up": 0}, attack={"first_round": 1}), tmp_path)
    assert {each.decision for each in done.records()[1:]} == {"rollback"}
    assert {line["verdict"] for line in decided(done)} == {"no trusted reference"}
    states = [digest(read_state(done.checkpoint(number))) for number in range(5)]
    assert len(set(states)) == 1


def test_a_guard_can_stop_the_run(tmp_path: Path) -> None:
    done = run(config(guard={"stop_after": 1}), tmp_path)
    assert done.last_round() == 3


@pytest.mark.parametrize("stop_at", [2, 3, None], ids=["before the stop", "at the stop", "whole"])
def test_a_resumed_run_goes_no_further_than_the_guard_s_stop(tmp_path: Path, stop_at: int | None) -> None:
    settings = config(guard={"stop_after": 1}, federation={"rounds": 5})
    expected = run(settings, tmp_path / "whole")
    with pytest.raises(Killed) if stop_at is not None else nullcontext():
        run(settings, tmp_path / "run", stop_at)
    done = run(settings, tmp_path / "run", resume=True)
    assert done.last_round() == 3
    assert decided(done) == decided(expected)
    assert digest(read_state(done.checkpoint(3))) == digest(read_state(expected.checkpoint(3)))


def test_held_rounds_go_on_and_the_last_scan_decides(tmp_path: Path) -> None:
    done = run(config(guard={"every": 2}), tmp_path)
    assert [each.decision for each in done.records()] == [None, "accept", "accept", "hold", "rollback"]
    states = [digest(read_state(done.checkpoint(number))) for number in range(5)]
    assert states[4] == states[2] != states[3]


def test_a_rollback_past_held_rounds_forgets_their_momentum(tmp_path: Path) -> None:
    done = run(config(guard={"every": 2}), tmp_path)
    velocities = [digest(done.aggregator_state(number)) for number in range(5)]
    assert velocities[4] == velocities[2] != velocities[3]


def test_a_tiny_attacker_with_an_update_a_thousand_times_as_large(tmp_path: Path) -> None:
    """0.6 % of the data, averaged by size; a thousandfold update overwhelms the rest."""
    attack = {"first_round": 2, "update": [{"kind": "amplify", "factor": 1000.0}]}
    everyone = {"clients": 160, "clients_per_round": 160, "rounds": 2}
    settings = config(attack=attack, federation=everyone, guard={"warm_up": 1}, training={"epochs": 1})
    federation = guarded_federation.built(settings)
    sizes = [len(client.images) for client in federation.clients]
    assert max(sizes) / sum(sizes) < 0.007
    done = run(settings, tmp_path / "guarded")
    assert [each.decision for each in done.records()[1:]] == ["accept", "rollback"]
    last = done.attacker.records()[-1]
    assert last.candidate_asr is not None
    assert last.candidate_asr[0] > 0.6
    assert last.asr[0] < 0.5
