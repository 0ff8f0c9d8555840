"""Which images and files a repair by votes uses when."""

import json
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmend.cli import pruning_command as module
from fedmend.data import load_images, stratified
from fedmend.detection import LargerTriggers, larger_triggers
from fedmend.detection.search import few_pixels
from fedmend.federation import RunFolder, clients, parse_config, simulate
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


def test_while_the_defence_runs_nothing_of_the_attackers_is_opened(
    run: Callable[..., Any],
    federation: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    opened: list[str],
) -> None:
    """The command itself opens it before, to play the clients, and after, to measure the attack."""
    by_votes, parts = module.repair_by_votes, [0]

    def watched(*arguments: Any) -> Any:
        parts.append(len(opened))
        repaired = by_votes(*arguments)
        parts.append(len(opened))
        return repaired

    monkeypatch.setattr(few_pixels, "MOST_SWITCHED", 8)
    short = partial(larger_triggers, search=LargerTriggers(steps=3))
    monkeypatch.setattr(clients, "larger_triggers", short)
    monkeypatch.setattr(module, "repair_by_votes", watched)
    assert run(command(federation.path, tmp_path, "--workers", "1", "--rounds", "1")).code in (1, 5)
    before, during, after = (opened[first:last] for first, last in pairwise((*parts, len(opened))))
    secret = [any("attacker" in path for path in some) for some in (before, during, after)]
    assert secret == [True, False, True]
