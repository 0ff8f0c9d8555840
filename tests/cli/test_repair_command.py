import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import planted
from fedmend.checkpoints import load_checkpoint
from fedmend.cli import repair_command as COMMAND
from fedmend.detection import Case
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.goals import AllToOne
from fedmend.local_training import LocalTraining
from fedmend.models import build_model
from fedmend.repairs import (
    REPAIRS,
    FineTuningDetails,
    NeuralCleanseUnlearning,
    RepairReport,
    SharpnessAwareTuning,
    Unlearning,
)

FOUR = {"scan.json", "scan.safetensors", "trigger.safetensors", "report.html", "repair.json"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


pytestmark = pytest.mark.usefixtures("short_search")


@pytest.fixture(autouse=True)
def _thorough(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few images as here need more epochs."""
    monkeypatch.setitem(REPAIRS, "unlearn", Unlearning(epochs=10, lr=0.005))


def test_a_backdoored_model_is_repaired(
    run: Callable[..., Any], files: Any, world: planted.World, tmp_path: Path
) -> None:
    arguments = files.repair(files.model("backdoored"), tmp_path)
    result = run([*arguments, "--json", "--max-accuracy-drop", "0.05", "--scan-method", "differential"])
    printed = json.loads(result.out)
    assert (result.code, result.err, printed["outcome"]) == (0, "", "repaired")
    assert names(tmp_path) == FOUR | {"repaired.safetensors"}
    report = RepairReport.from_json((tmp_path / "repair.json").read_text(encoding="utf-8"))
    assert json.loads(report.to_json()) == printed
    assert report.max_accuracy_drop == 0.05
    model = build_model(planted.ARCHITECTURE, num_classes=4, in_channels=1, image_size=(12, 12))
    load_checkpoint(tmp_path / "repaired.safetensors", model)
    unseen = world.images[120:], world.labels[120:]
    assert attack_success_rate(model, planted.patch(), AllToOne(planted.TARGET), *unseen) < 0.1
    assert accuracy(model, *unseen) > 0.9


def test_a_clean_one_needs_none(run: Callable[..., Any], files: Any, tmp_path: Path) -> None:
    result = run(files.repair(files.model("clean"), tmp_path))
    assert (result.code, result.err) == (4, "")
    assert result.out.startswith("CLEAN. ")
    assert "\nNOT NEEDED. The scan found no backdoor, so nothing was changed.\n" in result.out
    assert names(tmp_path) == FOUR


@pytest.mark.parametrize(("outcome", "code"), [("failed", 1), ("undecided", 3)])
def test_without_a_repaired_model_none_is_written(
    run: Callable[..., Any],
    files: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick_scans: Callable[[], None],
    outcome: Any,
    code: int,
) -> None:
    def pretended(*args: Any, **named: Any) -> tuple[None, RepairReport]:
        _, report = original(*args, **named)
        return None, replace(report, outcome=outcome)

    original = COMMAND.run_repair
    monkeypatch.setattr(COMMAND, "run_repair", pretended)
    quick_scans()
    result = run(files.repair(files.model("clean"), tmp_path))
    assert (result.code, result.err) == (code, "")
    assert f"\n{outcome.upper()}. " in result.out
    assert "Model: " not in result.out
    assert names(tmp_path) == FOUR
    (tmp_path / "repaired.safetensors").write_bytes(b"an earlier repair's")
    again = run([*files.repair(files.model("clean"), tmp_path), "--overwrite"])
    assert (again.code, again.err) == (code, "")
    assert names(tmp_path) == FOUR


def test_the_repaired_models_file_is_named(
    run: Callable[..., Any],
    files: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick_scans: Callable[[], None],
) -> None:
    def pretended(case: Case, *args: Any, **named: Any) -> tuple[nn.Module, RepairReport]:
        return case.suspect, replace(original(case, *args, **named)[1], outcome="repaired")

    original = COMMAND.run_repair
    monkeypatch.setattr(COMMAND, "run_repair", pretended)
    quick_scans()
    result = run(files.repair(files.model("clean"), tmp_path))
    assert f"\nModel: {tmp_path / 'repaired.safetensors'}\nReport: " in result.out


def test_another_ending_is_refused(refused: Callable[..., None], files: Any, tmp_path: Path) -> None:
    arguments = files.repair(files.model("backdoored"), tmp_path)
    refused([*arguments, "--out", str(tmp_path / "model.pt")], "repaired models are written as .safetensors")


def test_too_few_images_to_hold_some_out(refused: Callable[..., None], files: Any, tmp_path: Path) -> None:
    import numpy as np

    images, labels = planted.draw(16, seed=1)
    np.savez(tmp_path / "few.npz", images=images.numpy(), labels=labels.numpy())
    arguments = files.repair(files.model("clean"), tmp_path, data=str(tmp_path / "few.npz"))
    refused(arguments, "at least 20 images")


def test_what_goes_with_pruning_alone_is_refused(
    refused: Callable[..., None], files: Any, tmp_path: Path
) -> None:
    arguments = files.repair(files.model("clean"), tmp_path)
    for option in (
        ["--vote", "majority"],
        ["--workers", "2"],
        ["--reference-round", "1"],
        ["--held-out-images", "9"],
    ):
        refused([*arguments, *option], f"--method unlearn does not accept {option[0]}")
        refused([*arguments, "--method", "anp", *option], f"--method anp does not accept {option[0]}")


def test_another_papers_repair_is_chosen_by_name(
    run: Callable[..., Any], files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = LocalTraining(epochs=1, batch_size=8, lr=0.003)
    monkeypatch.setitem(REPAIRS, "neural-cleanse-unlearning", NeuralCleanseUnlearning(training=training))
    arguments = files.repair(files.model("backdoored"), tmp_path, method="neural-cleanse-unlearning")
    result = run([*arguments, "--json", "--max-accuracy-drop", "0.1"])
    printed = json.loads(result.out)
    assert (result.err, printed["method"]) == ("", "NeuralCleanseUnlearning")
    assert printed["settings"]["stamped_fraction"] == 0.2
    assert printed["details"]["passes"] == 1
    assert result.code in (0, 1)
    assert names(tmp_path) == FOUR | ({"repaired.safetensors"} if result.code == 0 else set())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "NeuralCleanseUnlearning" in page


def test_a_repair_without_triggers_is_tried_after_an_inconclusive_scan(
    run: Callable[..., Any], files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Any] = []

    def noted(case: Any, found: Any, method: Any, gate: Any, **named: Any) -> Any:
        unsure = replace(found, verdict="inconclusive")
        model, report = original(case, unsure, method, replace(gate, max_accuracy_drop=1.0), **named)
        tried.append(report)
        return model, report

    original = COMMAND.run_repair
    monkeypatch.setattr(COMMAND, "run_repair", noted)
    monkeypatch.setitem(REPAIRS, "ft-sam", SharpnessAwareTuning(epochs=1))
    arguments = files.repair(files.model("clean"), tmp_path)
    assert run([*arguments, "--method", "ft-sam"]).code == 0
    assert tried[0].details == FineTuningDetails(2, 60)
    assert (tmp_path / "repaired.safetensors").exists()


def test_unlearning_needs_a_model_and_data(refused: Callable[..., None], files: Any, tmp_path: Path) -> None:
    words = ["repair", files.model("backdoored"), "--out", str(tmp_path / "repaired.safetensors")]
    refused(words, "--method unlearn needs --model, --data")
    refused([*words, "--method", "i-bau"], "--method i-bau needs --model, --data")


def test_an_effort_and_a_limit_on_memory_are_those_of_both_scans(
    run: Callable[..., Any], files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def noted(case: Any, found: Any, method: Any, gate: Any, **named: Any) -> Any:
        seen.extend((found.findings[0].settings["effort"], gate.detector))
        return original(case, found, method, gate, **named)

    original = COMMAND.run_repair
    monkeypatch.setattr(COMMAND, "run_repair", noted)
    arguments = files.repair(files.model("clean"), tmp_path)
    assert run([*arguments, "--effort", "quick", "--memory", "1GiB"]).code == 4
    assert seen == ["quick", replace(planted.QUICK, memory=2**30)]
    assert run(arguments).code == 4
    assert seen[2] == "standard"


def test_pruning_takes_no_effort_and_nothing_about_a_model_file(
    refused: Callable[..., None], tmp_path: Path
) -> None:
    arguments = ["repair", str(tmp_path), "--method", "prune", "--out", str(tmp_path / "out.safetensors")]
    for option in (
        ["--effort", "quick"],
        ["--key", "weights"],
        ["--strip-prefix", "net."],
        ["--model-args", "width=8"],
        ["--mean", "imagenet"],
        ["--resize", "32"],
    ):
        refused([*arguments, *option], f"--method prune does not accept {option[0]}")
