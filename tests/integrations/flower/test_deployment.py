"""A SuperLink and three SuperNodes as processes, with TLS and authenticated nodes: the example, and faults."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmend.checkpoints import read_state
from fedmend.guard import History, digest

EXAMPLE = Path(__file__).parents[3] / "examples" / "flower"
sys.path.insert(0, str(EXAMPLE))

from deploy import Deployment  # noqa: E402

pytestmark = pytest.mark.slow
PATIENCE = 600.0


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    made = Deployment(tmp_path_factory.mktemp("deployment"))
    made.environment["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] = "0.1"  # seconds, in place of 1
    with made.running() as running:
        yield running


def actions(history: Path) -> list[str]:
    """Of a history that is checked: digests and chain."""
    opened = History(history)
    opened.check()
    return [line.action for line in opened.lines()]


def test_the_example_runs_and_the_attack_is_not_released(deployment: Deployment) -> None:
    settings = ["num-server-rounds=2", "warm-up=1", "first-attack=2", "local-epochs=1"]
    deployment.run(settings, timeout=PATIENCE)
    history = deployment.folder / "guard-history"
    assert actions(history)[0] == "accept"
    assert actions(history)[1] in ("rollback", "repair")
    newest = History(history).read()[0].last
    assert newest is not None
    state = read_state(history / "models" / newest.stored.file)
    assert digest(state) == newest.stored.weights


def test_nodes_without_a_registered_key_stay_out(deployment: Deployment) -> None:
    listed = json.loads(deployment.flwr("supernode", "list", "here", "--format", "json"))
    assert [node["status"] for node in listed["nodes"]] == ["online"] * 3


@pytest.mark.skipif(
    "FEDMEND_FAULTS" not in os.environ,
    reason="takes minutes, and its timing needs an idle machine: FEDMEND_FAULTS=1",
)
def test_faults(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server dies in a scan and starts again; clients send NaN, die in mid-round, vote garbage or not at all."""
    monkeypatch.setattr(deployment, "app", Path(__file__).with_name("faulty_app"))
    folder = deployment.folder / "faults"
    settings = [f"history='{folder / 'guard-history'}'"]
    deployment.run(settings, timeout=PATIENCE)
    assert actions(folder / "guard-history") == ["accept"]
    assert not (folder / "outcome.json").exists()
    deployment.run(settings, timeout=PATIENCE)
    assert actions(folder / "guard-history") == ["accept"] * 4
    outcome = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
    assert outcome["released"] == outcome["result"]
    assert outcome["refused"] == [0, 1, 0]
    assert outcome["ballots"] == 1
