import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import planted
from fedmend.checkpoints import read_state
from fedmend.cli import pruning_command as module
from fedmend.data import load_images
from fedmend.detection import LargerTriggers, larger_triggers
from fedmend.detection.search import few_pixels
from fedmend.federation import RunFolder, clients, parse_config, simulate
from fedmend.repairs import REPAIRS, FederatedPruning, Gate, RepairReport
from fedmend.repairs.repair_report import PruningDetails, Stage, VotedTrigger

WRITTEN = {"repair.json", "report.html", "repaired.safetensors"}
LENIENT = Gate(max_accuracy_drop=0.05, max_trigger_success=1.0, detector=planted.QUICK)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round, short searches, and a model that has learnt next to nothing may still be moved by a few pixels."""
    monkeypatch.setitem(REPAIRS, "prune", FederatedPruning(fine_tuning_rounds=1))
    monkeypatch.setattr(few_pixels, "MOST_SWITCHED", 16)
    short = partial(larger_triggers, search=LargerTriggers(steps=6))
    monkeypatch.setattr(clients, "larger_triggers", short)
    monkeypatch.setattr(module, "VOTING_GATE", LENIENT)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory, fewer_images: str) -> RunFolder:
    """A short attacked run."""
    config = parse_config(
        {
            "data": {"source": fewer_images},
            "model": {"architecture": "two-conv-8-16"},
            "training": {"epochs": 1, "images_per_epoch": 64, "lr": 0.003},
            "federation": {"clients": 4, "clients_per_round": 4, "rounds": 2},
            "attack": [
                {
                    "trigger": {"kind": "pixels", "pattern": "3px"},
                    "goal": {"kind": "one-to-one", "source": 3, "target": 2},
                },
                {"trigger": {"kind": "box", "top": 0, "left": 0}, "attackers": 1},
            ],
        }
    )
    return simulate(config, tmp_path_factory.mktemp("federation") / "run")


def command(run: Path, out: Path, *more: str) -> list[str]:
    words = ["repair", str(run), "--method", "prune", "--out", str(out / "repaired.safetensors")]
    return [*words, "--device", "cpu", "--seed", "0", *more]


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def pruning(report: RepairReport) -> PruningDetails:
    assert isinstance(report.details, PruningDetails)
    return report.details


def test_a_run_is_repaired_by_its_clients_votes(
    run: Callable[..., Any], federation: RunFolder, tmp_path: Path
) -> None:
    result = run(command(federation.path, tmp_path, "--max-accuracy-drop", "1"))
    report = RepairReport.from_json((tmp_path / "repair.json").read_text(encoding="utf-8"))
    details = pruning(report)
    assert (result.code, result.err) == (5, "")
    assert written(tmp_path) == WRITTEN
    assert result.out.startswith("UNVERIFIED. ")
    assert "nothing verified that the backdoor is gone" in result.out
    assert "4 ballots counted." in result.out
    assert re.search(
        r"known only in a simulation\): [\d.]+% and [\d.]+% before, [\d.]+% and [\d.]+% after\.", result.out
    )
    assert f"\nModel: {tmp_path / 'repaired.safetensors'}\nReport: " in result.out
    weights = read_state(tmp_path / "repaired.safetensors")[f"{details.layer}.weight"]
    assert bool((weights[list(details.pruned)] == 0).all())
    measured = json.loads((tmp_path / "attacker" / "prune_evaluation.json").read_text(encoding="utf-8"))
    assert len(measured["asr_along"]) == len(details.points)
    assert len(measured["asr"]) == len(details.stages)
    assert {len(rates) for rates in measured["asr"] + measured["asr_along"]} == {2}
    assert measured["asr"][0] == measured["asr_along"][0]
    assert [stage.name for stage in details.stages][:3] == ["suspect", "pruned", "fine-tuned"]


@pytest.fixture
def made_up() -> RepairReport:
    details = PruningDetails(
        layer="conv2",
        channels=2,
        vote="ranking",
        ballots=4,
        refused={},
        missing=0,
        sequence=(1, 0),
        points=(0, 1),
        accuracies=(0.9, 0.9),
        pruned=(1,),
        stages=(Stage("suspect", 0.9, 0), Stage("pruned", 0.9, 9)),
        triggers=(
            VotedTrigger(1, 9, 7, 0.9, ((0, 0),)),
            VotedTrigger(2, 9, 7, 1.0, tuple((0, column) for column in range(8))),
            VotedTrigger(2, 3, 7, 0.95, ((0, 0),)),
        ),
        num_validation=1000,
    )
    return RepairReport(
        outcome="unverified",
        reason="1 of 2 channels were pruned.",
        method="FederatedPruning",
        settings={},
        seconds=1.0,
        accuracy_before=0.9,
        accuracy_after=0.9,
        accuracy_error=0.0,
        num_judged=500,
        num_heldout=500,
        max_accuracy_drop=0.05,
        verdict_after=None,
        details=details,
    )


def test_without_an_image_that_an_attack_needs_nothing_is_measured(
    federation: RunFolder, made_up: RepairReport
) -> None:
    test = load_images(federation.config().data.source, "test")
    others = test.subset((test.labels != 3).nonzero().flatten())
    assert module.evaluate(federation, others, {}, made_up) is None


def with_triggers(report: RepairReport, *triggers: VotedTrigger) -> RepairReport:
    return replace(report, details=replace(pruning(report), triggers=triggers))


def test_what_clients_found_is_told_where_it_moves_most_of_a_class(made_up: RepairReport) -> None:
    line = "Clients found 8 pixels that send 100.0% of class 9 to class 7 (2 clients)."
    assert module.summary(made_up, None).splitlines()[-1] == line
    claimed = module.summary(replace(made_up, details=replace(pruning(made_up), num_validation=0)), None)
    assert claimed.splitlines()[-1].startswith("Clients claim to have found 8 pixels that send 100.0%")
    one = with_triggers(made_up, VotedTrigger(1, 3, 2, 0.8, ((0, 0),)))
    text = module.summary(one, None)
    assert "Clients found 1 pixel that sends 80.0% of class 3 to class 2 (1 client)." in text
    for triggers in ((), (VotedTrigger(1, 3, 2, 0.79, ((0, 0),)),)):
        assert "Clients" not in module.summary(with_triggers(made_up, *triggers), None)


def test_json_is_the_report_alone(run: Callable[..., Any], federation: RunFolder, tmp_path: Path) -> None:
    words = command(
        federation.path, tmp_path, "--rounds", "0", "--validation-images", "0", "--max-accuracy-drop", "1"
    )
    result = run([*words, "--json"])
    assert result.err == ""
    assert pruning(RepairReport.from_json(result.out)).ballots == 4


def test_a_failed_repair_writes_no_model(
    run: Callable[..., Any], federation: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VOTING_GATE", Gate(max_accuracy_drop=1.0, max_trigger_success=0.0))
    result = run(command(federation.path, tmp_path))
    assert result.code == 1
    assert result.out.startswith("FAILED. ")
    assert "a found trigger still works" in result.out
    assert written(tmp_path) == WRITTEN - {"repaired.safetensors"}


def test_the_vote_its_rounds_and_delta_can_be_chosen(
    run: Callable[..., Any], federation: RunFolder, tmp_path: Path
) -> None:
    words = ["--vote", "majority", "--rounds", "0", "--delta", "2.5", "--max-accuracy-drop", "1", "--json"]
    details = pruning(RepairReport.from_json(run(command(federation.path, tmp_path, *words)).out))
    assert details.vote == "majority"
    assert [stage.name for stage in details.stages] == ["suspect", "pruned", "adjusted"]
    assert details.stages[-1].delta == 2.5


def test_an_earlier_round_is_the_reference_of_a_new_scan(
    run: Callable[..., Any], federation: RunFolder, tmp_path: Path
) -> None:
    words = ["--rounds", "0", "--reference-round", "1", "--validation-images", "100", "--json"]
    report = RepairReport.from_json(run(command(federation.path, tmp_path, *words)).out)
    assert report.verdict_after is not None
    assert (report.outcome == "failed") == (report.verdict_after != "clean")


def test_a_run_that_stopped_early_is_repaired_with_a_warning(
    run: Callable[..., Any], federation: RunFolder, tmp_path: Path
) -> None:
    shutil.copytree(federation.path, tmp_path / "run")
    RunFolder(tmp_path / "run").checkpoint(2).unlink()
    words = command(tmp_path / "run", tmp_path / "out", "--rounds", "0", "--max-accuracy-drop", "1")
    warning = "Warning: the run stopped after round 1 of 2; its last model was repaired"
    assert warning in run(words).out.splitlines()


def test_what_it_is_given_must_be_a_run(
    refused: Callable[..., None], files: Any, federation: RunFolder, tmp_path: Path
) -> None:
    refused(command(Path(files.model("clean")), tmp_path), "--method prune expects the folder of a run")
    refused(command(files.folder, tmp_path), "holds no run")
    refused(command(federation.path, tmp_path, "--validation-images", "100000"), "some must be left")
    refused(command(federation.path, tmp_path, "--data", "mnist"), "--method prune does not accept --data")
    refused(command(federation.path, tmp_path, "--reference-round", "9"), "no checkpoint of round 9")
    words = ["--reference-round", "1", "--validation-images", "0"]
    refused(command(federation.path, tmp_path, *words), "--reference-round is for a new scan")
    words = ["--reference-round", "2"]
    refused(
        command(federation.path, tmp_path, *words), "--reference-round 2 is the round whose model is to be"
    )
    refused(command(federation.path, tmp_path, "--held-out-images", "0"), "judged by other images")
    refused(
        command(federation.path, tmp_path, "--held-out-images", "1000"), "has 1700 images, and some must be"
    )


def test_an_honest_run_has_nothing_secret_to_show(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fewer_images: str
) -> None:
    config = parse_config(
        {
            "data": {"source": fewer_images},
            "model": {"architecture": "two-conv-8-16"},
            "training": {"epochs": 1, "images_per_epoch": 32},
            "federation": {"clients": 2, "clients_per_round": 2, "rounds": 1},
        }
    )
    simulate(config, tmp_path / "run")
    monkeypatch.setitem(REPAIRS, "prune", FederatedPruning(fine_tuning_rounds=0))
    out = tmp_path / "out"
    result = run(command(tmp_path / "run", out, "--max-accuracy-drop", "1"))
    assert result.code == 5
    assert written(out) == WRITTEN
    assert not (out / "attacker" / "prune_evaluation.json").exists()
