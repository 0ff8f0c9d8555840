import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fedmend.repairs.vote_pruning import PruneReport, Stage, VotedTrigger

from fedmend.checkpoints import read_state
from fedmend.cli import pruning_command as module
from fedmend.data import load_images
from fedmend.detection.search import few_pixels
from fedmend.federation import RunFolder, parse_config, simulate
from fedmend.repairs import FederatedPruning

WRITTEN = {"prune.json", "prune_evaluation.json", "report.html", "repaired.safetensors"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.RECIPES, "prune", FederatedPruning(fine_tuning_rounds=1))
    monkeypatch.setattr(few_pixels, "MOST_SWITCHED", 16)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A short attacked run on the images in the package."""
    config = parse_config(
        {
            "model": {"architecture": "two-conv-8-16"},
            "training": {"epochs": 1, "images_per_epoch": 64, "lr": 0.003},
            "federation": {"clients": 4, "clients_per_round": 4, "rounds": 2},
            "attack": {"shape": "3px", "target_class": 2, "victim_class": 9},
        }
    )
    return simulate(config, tmp_path_factory.mktemp("federation") / "run")


def command(run: Path, out: Path, *more: str) -> list[str]:
    words = ["repair", str(run), "--method", "prune", "--out", str(out / "repaired.safetensors")]
    return [*words, "--device", "cpu", *more]


def test_a_run_is_repaired_by_its_clients_votes(
    run: Callable[..., Any], federation: RunFolder, tmp_path: Path
) -> None:
    result = run(command(federation.path, tmp_path, "--max-accuracy-drop", "1"))
    assert (result.code, result.err) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == WRITTEN
    report = PruneReport.from_json((tmp_path / "prune.json").read_text(encoding="utf-8"))
    assert result.out.startswith("PRUNED. ")
    assert "4 ballots counted." in result.out
    assert "known only in a simulation" in result.out
    weights = read_state(tmp_path / "repaired.safetensors")[f"{report.layer}.weight"]
    assert bool((weights[list(report.pruned)] == 0).all())
    measured = json.loads((tmp_path / "prune_evaluation.json").read_text(encoding="utf-8"))
    assert len(measured["asr_along"]) == len(report.points)
    assert len(measured["asr"]) == len(report.stages)
    assert [stage.name for stage in report.stages][:3] == ["suspect", "pruned", "fine-tuned"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Pruning" in page


@pytest.fixture
def made_up() -> PruneReport:
    return PruneReport(
        outcome="pruned",
        reason="1 of 2 channels pruned.",
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
        extreme=(),
        values=(),
        settings={},
        max_accuracy_drop=0.05,
        seconds=1.0,
        validation_images=500,
        triggers=(
            VotedTrigger(1, 9, 7, 0.9, ((0, 0),)),
            VotedTrigger(2, 9, 7, 1.0, tuple((0, column) for column in range(8))),
            VotedTrigger(2, 3, 7, 0.95, ((0, 0),)),
        ),
    )


def test_what_clients_found_is_told_where_it_moves_most_of_a_class(made_up: PruneReport) -> None:
    line = "Clients found 8 pixels that move 100.0% of class 9 to class 7 (2 clients)."
    assert module.told(made_up, None).splitlines()[-1] == line
    claimed = module.told(replace(made_up, validation_images=0), None)
    assert claimed.splitlines()[-1].startswith("Clients claim to have found 8 pixels that move 100.0%")
    one = replace(made_up, triggers=(VotedTrigger(1, 3, 2, 0.8, ((0, 0),)),))
    assert "Clients found 1 pixel that moves 80.0% of class 3 to class 2 (1 client)." in module.told(
        one, None
    )
    for triggers in ((), (VotedTrigger(1, 3, 2, 0.79, ((0, 0),)),)):
        assert "Clients" not in module.told(replace(made_up, triggers=triggers), None)


def test_json_is_the_report_alone(run: Callable[..., Any], federation: RunFolder, tmp_path: Path) -> None:
    words = command(
        federation.path, tmp_path, "--validation-images", "0", "--max-accuracy-drop", "1", "--json"
    )
    result = run(words)
    assert result.err == ""
    report = PruneReport.from_json(result.out)
    assert report.ballots == 4


def test_a_failed_repair_writes_no_model(
    run: Callable[..., Any], federation: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(FederatedPruning):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            model, report = super().__call__(*arguments, **options)
            failed = json.loads(report.to_json()) | {"outcome": "failed"}
            return model, PruneReport.from_json(json.dumps(failed))

    monkeypatch.setitem(module.RECIPES, "prune", Failing(fine_tuning_rounds=0))
    result = run(command(federation.path, tmp_path))
    assert result.code == 1
    assert {path.name for path in tmp_path.iterdir()} == WRITTEN - {"repaired.safetensors"}


def test_the_vote_its_rounds_and_delta_can_be_chosen(
    run: Callable[..., Any], federation: RunFolder, tmp_path: Path
) -> None:
    words = ["--vote", "majority", "--rounds", "0", "--delta", "2.5", "--max-accuracy-drop", "1", "--json"]
    report = PruneReport.from_json(run(command(federation.path, tmp_path, *words)).out)
    assert report.vote == "majority"
    assert [stage.name for stage in report.stages] == ["suspect", "pruned", "adjusted"]
    assert report.stages[-1].delta == 2.5


def test_what_it_is_given_must_be_a_run(
    refused: Callable[..., None], files: Any, federation: RunFolder, tmp_path: Path
) -> None:
    refused(command(Path(files.model("clean")), tmp_path), "--method prune repairs the folder of a run")
    refused(command(files.folder, tmp_path), "holds no run")
    refused(command(federation.path, tmp_path, "--validation-images", "100000"), "some must be left")
    refused(
        command(federation.path, tmp_path, "--data", "mnist"),
        "takes a run's own model and data; leave out --data",
    )


def test_unlearning_still_needs_its_options(refused: Callable[..., None], files: Any, tmp_path: Path) -> None:
    words = ["repair", files.model("backdoored"), "--out", str(tmp_path / "repaired.safetensors")]
    refused(words, r"--method unlearn needs --reference, --model, --data")


def test_an_honest_run_has_nothing_secret_to_show(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config(
        {
            "model": {"architecture": "two-conv-8-16"},
            "training": {"epochs": 1, "images_per_epoch": 32},
            "federation": {"clients": 2, "clients_per_round": 2, "rounds": 1},
        }
    )
    simulate(config, tmp_path / "run")
    monkeypatch.setitem(module.RECIPES, "prune", FederatedPruning(fine_tuning_rounds=0))
    out = tmp_path / "out"
    result = run(command(tmp_path / "run", out, "--max-accuracy-drop", "1"))
    assert result.code == 0
    assert {path.name for path in out.iterdir()} == WRITTEN - {"prune_evaluation.json"}


def test_the_evaluation_is_on_images_that_the_server_has_not(
    run: Callable[..., Any], federation: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.RECIPES, "prune", FederatedPruning(fine_tuning_rounds=0))
    result = run(command(federation.path, tmp_path, "--validation-images", "100", "--max-accuracy-drop", "1"))
    assert result.code == 0
    measured = json.loads((tmp_path / "prune_evaluation.json").read_text(encoding="utf-8"))
    assert measured["num_images"] == len(load_images("fashion-mnist-sample", "test")) - 100
