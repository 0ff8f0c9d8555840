"""After a repair, a simulation shows whether the attack still works."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fedmend.cli import attack_measuring, repair_command
from fedmend.cli.attack_measuring import in_words, measure_attack
from fedmend.data import load_images
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.federation import RunFolder, load_attacks, parse_config, simulate
from fedmend.pages import read_folder
from fedmend.pixels import to_float
from fedmend.repairs.simulated_run import round_model

NONE = torch.zeros(0, 1, 28, 28)
SETTINGS: dict[str, Any] = {
    "model": {"architecture": "two-conv-8-16"},
    "training": {"epochs": 1, "images_per_epoch": 32},
    "federation": {"clients": 2, "clients_per_round": 2, "rounds": 1},
    "attack": [{}, {"goal": {"kind": "one-to-one", "source": 3, "target": 2}}],
}


@pytest.fixture(scope="module")
def settings(fewer_images: str) -> dict[str, Any]:
    return SETTINGS | {"data": {"source": fewer_images}}


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]) -> RunFolder:
    return simulate(parse_config(settings), tmp_path_factory.mktemp("federation") / "run")


def models(run: RunFolder) -> tuple[nn.Module, nn.Module]:
    images = load_images(run.config().data.source, "train")
    return round_model(run, images, 1), round_model(run, images, 0)


@pytest.mark.parametrize("learned", [0, 20])
def test_the_attackers_own_triggers_are_measured_on_the_runs_other_test_images(
    federation: RunFolder, learned: int
) -> None:
    suspect, repaired = models(federation)
    every = load_images(federation.config().data.source, "test")
    test = every.subset(range(learned, len(every)))
    measured = measure_attack(federation.checkpoint(1), suspect, repaired, to_float(every.images[:learned]))
    assert measured is not None
    rates = [
        tuple(
            attack_success_rate(model, attack.trigger, attack.goal, test.images, test.labels)
            for attack in load_attacks(federation, every)
        )
        for model in (suspect, repaired)
    ]
    assert [measured.asr_before, measured.asr_after] == rates
    assert measured.accuracy_after == accuracy(repaired, test.images, test.labels)
    assert measured.num_images == len(test)
    failed = measure_attack(federation.checkpoint(1), suspect, None, every.images[:learned])
    assert failed == replace(measured, accuracy_after=None, asr_after=None)


def test_other_files_have_no_attack_to_measure(
    federation: RunFolder, settings: dict[str, Any], tmp_path: Path
) -> None:
    suspect, _ = models(federation)
    for file in (tmp_path / "model.safetensors", federation.path / "model.safetensors"):
        assert measure_attack(file, suspect, None, NONE) is None
    honest = {key: value for key, value in settings.items() if key != "attack"}
    run = simulate(parse_config(honest), tmp_path / "run")
    assert measure_attack(run.checkpoint(1), suspect, None, NONE) is None


def test_without_other_images_of_a_source_class_nothing_is_measured(federation: RunFolder) -> None:
    suspect, repaired = models(federation)
    test = load_images(federation.config().data.source, "test")
    for learned in (test.images, test.images[test.labels == 3]):
        assert measure_attack(federation.checkpoint(1), suspect, repaired, learned) is None


def test_it_is_said_in_a_line() -> None:
    made = attack_measuring.AttackEvaluation(10, 0.9, (0.98, 0.5), 0.8, (0.031, 0.02))
    begin = "Attack success rate (known only in a simulation): 98.0% and 50.0% before"
    assert in_words(made) == f"{begin}, 3.1% and 2.0% after.\n"
    assert in_words(replace(made, asr_after=None)) == f"{begin}.\n"
    assert in_words(None) == ""


@pytest.mark.usefixtures("short_search")
def test_a_repair_prints_and_keeps_it_and_removes_that_of_an_earlier_one(
    run: Callable[..., Any], files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = attack_measuring.AttackEvaluation(10, 0.9, (0.98,), 0.8, (0.03,))
    told = [made, None]
    monkeypatch.setattr(repair_command, "measure_attack", lambda *_: told.pop(0))
    words = files.repair(files.model("clean"), tmp_path, effort="quick")
    assert "\nAttack success rate (known only in a simulation): 98.0% before, 3.0% after.\n" in run(words).out
    assert read_folder(tmp_path).evaluation == made
    assert "Attack success rate" not in run(words).out
    assert read_folder(tmp_path).evaluation is None
