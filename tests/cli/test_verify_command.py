"""``fedmend verify``, and what ``fedmend simulate`` and ``fedmend report`` make of a guard."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import planted
from fedmend.guard import Guard, GuardPolicy

Refused = Callable[..., None]


@pytest.fixture
def history(tmp_path: Path, world: planted.World) -> Path:
    """Of a trusted model, an accepted round and a rejected one."""
    policy = GuardPolicy(detectors=("silent_detector:make",), repair="none", older_references=())  # type: ignore[arg-type]
    made = Guard(
        policy,
        model=world.reference,
        images=world.images,
        labels=world.labels,
        history=tmp_path / "history",
        seed=1,
        trusted=world.reference,
    )
    made.review(world.clean, 1)
    broken = {name: value / 0 for name, value in world.clean.state_dict().items()}
    made.review(broken, 2)
    return tmp_path / "history"


def test_an_intact_history_is_verified(run: Any, history: Path) -> None:
    done = run(["verify", str(history)])
    assert done.code == 0
    assert "INTACT. 3 decisions: 2 accepted, 1 rolled back." in done.out
    head = json.loads((history / "manifest.json").read_text())["head"]
    assert f"Last decision: SHA-256 {head}" in done.out
    assert "round-0001-1.safetensors, round 1's accepted model" in done.out


@pytest.mark.parametrize("name", ["manifest.json", "decisions.jsonl", "models/start.safetensors"])
def test_a_harmed_history_ends_with_1_and_names_the_file(run: Any, history: Path, name: str) -> None:
    content = (history / name).read_bytes()
    (history / name).write_bytes(content[:-40])
    done = run(["verify", str(history)])
    assert done.code == 1
    assert done.out.startswith("NOT INTACT. ")
    assert name in done.out


def test_a_folder_without_a_history_is_bad_input(refused: Refused, tmp_path: Path) -> None:
    refused(["verify", str(tmp_path)], "holds no guard's history; expected a folder with manifest.json")
    refused(["verify", str(tmp_path / "none")], "holds no guard's history")


def test_a_history_is_reported(run: Any, refused: Refused, history: Path) -> None:
    assert run(["report", str(history)]).code == 0
    page = (history / "report.html").read_text()
    assert "1 accepted, 1 rolled back" in page
    assert "holds NaN or infinite values" in page
    assert run(["verify", str(history)]).code == 0
    (history / "manifest.json").write_text("{}")
    refused(["report", str(history)], "manifest.json is damaged")


def test_a_guard_in_a_simulation(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    config = tmp_path / "guarded.toml"
    config.write_text(
        "[training]\nepochs = 1\nimages_per_epoch = 32\n[federation]\nclients = 4\nclients_per_round = 2\nrounds = 3\n"
        '[model]\narchitecture = "two-conv-8-16"\n'
        '[guard]\ndetectors = ["silent_detector:make"]\nwarm_up = 2\n'
    )
    words = ["simulate", str(config), "--out", str(tmp_path / "run"), "--workers", "1", "--device", "cpu"]
    refused([*words, "--set", "guard.evry=2"], r"\[guard\] evry: did you mean every\?")
    done = run([*words, "--set", "guard.every=2"])
    assert done.code == 0, done.err
    assert "Guard: 2 accepted, 1 held" in done.out
    assert "round-0002-1.safetensors, the last that the guard released" in done.out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["guard"]["every"] == 2
    assert run(["verify", str(tmp_path / "run")]).code == 0
    assert run(["report", str(tmp_path / "run")]).code == 0
    refused([*words, "--resume"], "can't resume")
