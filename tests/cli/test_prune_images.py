"""Which images and files a repair by votes uses when."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmend.cli import pruning_command as module
from fedmend.data import load_images, stratified
from fedmend.federation import RunFolder, parse_config, simulate
from fedmend.repairs import REPAIRS, FederatedPruning, RepairReport
from fedmend.seeds import generator


@pytest.fixture(autouse=True)
def _vote_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REPAIRS, "prune", FederatedPruning(fine_tuning_rounds=0))


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory, fewer_images: str) -> RunFolder:
    config = parse_config(
        {
            "data": {"source": fewer_images},
            "model": {"architecture": "two-conv-8-16"},
            "training": {"epochs": 1, "images_per_epoch": 32},
            "federation": {"clients": 2, "clients_per_round": 2, "rounds": 1},
            "attack": [
                {
                    "trigger": {"kind": "pixels", "pattern": "3px"},
                    "goal": {"kind": "one-to-one", "source": 3, "target": 2},
                }
            ],
        }
    )
    return simulate(config, tmp_path_factory.mktemp("federation") / "run")


def command(run: Path, out: Path, *more: str) -> list[str]:
    words = ["repair", str(run), "--method", "prune", "--out", str(out / "repaired.safetensors")]
    return [*words, "--device", "cpu", "--max-accuracy-drop", "1", *more]


@pytest.mark.parametrize(
    ("words", "validation", "held_out"),
    [
        ([], 1000, 500),
        (["--validation-images", "100", "--held-out-images", "60"], 100, 60),
        (["--validation-images", "0"], 0, 0),
        (["--validation-images", "0", "--held-out-images", "60"], 0, 60),
    ],
)
def test_images_that_choose_judge_and_measure_have_none_in_common(
    run: Callable[..., Any],
    federation: RunFolder,
    fewer_images: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    validation: int,
    held_out: int,
) -> None:
    """The validation images are drawn as if there were no others."""
    used: list[Any] = []
    by_votes, evaluate = module.repair_by_votes, module.evaluate

    def spy(case: Any, participants: Any, *more: Any) -> Any:
        used.extend([participants.validation, case])
        return by_votes(case, participants, *more)

    def measured(run: Any, test: Any, *more: Any) -> Any:
        used.append(test)
        return evaluate(run, test, *more)

    monkeypatch.setattr(module, "repair_by_votes", spy)
    monkeypatch.setattr(module, "evaluate", measured)
    result = run(command(federation.path, tmp_path, *words, "--seed", "0", "--json"))
    assert (result.code, result.err) == (5, "")
    report = RepairReport.from_json(result.out)
    assert report.details is not None
    assert report.details.num_validation == validation  # type: ignore[union-attr]
    assert (report.num_judged, report.num_heldout) == (held_out, held_out)
    sets = [each.images for each in used if each is not None and each.images is not None]
    assert [len(images) for images in sets] == [
        count for count in (validation, held_out, 1700 - validation - held_out) if count
    ]
    test = load_images(fewer_images)
    together = sorted(image.numpy().tobytes() for images in sets for image in images)
    assert together == sorted(image.numpy().tobytes() for image in test.images)
    if validation:
        drawn = stratified(test, validation, generator(0, "validation"))
        assert torch.equal(sets[0], test.images[drawn])
    measured_on = json.loads((tmp_path / "attacker" / "prune_evaluation.json").read_text(encoding="utf-8"))
    assert measured_on["num_images"] == 1700 - validation - held_out


SCRIPT = """
import sys
from functools import partial
from fedmend.cli import main, pruning_command
from fedmend.detection import LargerTriggers, larger_triggers
from fedmend.detection.search import few_pixels
from fedmend.federation import clients

few_pixels.MOST_SWITCHED = 8
clients.larger_triggers = partial(larger_triggers, search=LargerTriggers(steps=3))
opened, parts = [], []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
by_votes = pruning_command.repair_by_votes

def watched(*args, **named):
    parts.append(len(opened))
    result = by_votes(*args, **named)
    parts.append(len(opened))
    return result

pruning_command.repair_by_votes = watched
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert stop.code in (1, 5), stop.code
first, last = parts
for some in (opened[:first], opened[first:last], opened[last:]):
    print("opened", any("attacker" in path for path in some))
"""


def test_while_the_defence_runs_nothing_of_the_attackers_is_opened(
    federation: RunFolder, tmp_path: Path
) -> None:
    """The command itself opens it before, to play the clients, and after, to measure the attack."""
    words = command(federation.path, tmp_path, "--workers", "1", "--rounds", "1")
    command_line = [sys.executable, "-c", SCRIPT, *words]
    done = subprocess.run(command_line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("opened")]
    assert told == ["opened True", "opened False", "opened True"]
