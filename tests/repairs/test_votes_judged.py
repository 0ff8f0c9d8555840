"""The images that choose a model by votes, and those that judge it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from voting import TEST, TRAIN, attacked_run, state, voted

from fedmend.checkpoints import save_state
from fedmend.detection import Case, Finding
from fedmend.errors import DataError
from fedmend.federation import RunFolder, load_federation
from fedmend.inference import predict
from fedmend.repairs import (
    VOTING_GATE,
    Candidate,
    Context,
    FederatedPruning,
    Participants,
    RepairReport,
    ValidationSet,
    repair_by_votes,
)
from fedmend.repairs.simulated_run import participants_of, round_model

VOTE_ONLY = FederatedPruning(fine_tuning_rounds=0)
CHOOSE, JUDGE = slice(0, None, 2), slice(1, None, 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return attacked_run(tmp_path_factory.mktemp("run") / "out")


@pytest.fixture(scope="module")
def participants(run: RunFolder) -> Participants:
    chooses = ValidationSet(TEST.images[CHOOSE], TEST.labels[CHOOSE])
    return replace(participants_of(run, load_federation(run, TRAIN)), validation=chooses)


def judged_by(run: RunFolder, images: Any = None, labels: Any = None) -> Case:
    return Case(round_model(run, TRAIN), None, images, labels)


def test_the_validation_images_choose_and_the_cases_images_judge(
    run: RunFolder, participants: Participants
) -> None:
    method = FederatedPruning(fine_tuning_rounds=1)
    lenient = replace(VOTING_GATE, max_trigger_success=1.0, max_accuracy_drop=1.0)
    (one, first, stages), (other, second, others) = (
        repair_by_votes(judged_by(run, TEST.images[part], TEST.labels[part]), participants, method, lenient)
        for part in (JUDGE, CHOOSE)
    )
    assert torch.equal(state(stages["fine-tuned"]), state(others["fine-tuned"]))
    assert isinstance(one, nn.Module) == isinstance(other, nn.Module)
    assert (first.num_judged, first.num_heldout) == (len(TEST.labels[JUDGE]),) * 2
    assert "on held-out images" in first.reason
    assert (second.num_judged, second.num_heldout) == (len(TEST.labels[CHOOSE]), 0)
    assert "on the images that also chose the model" in second.reason
    right = predict(stages["fine-tuned"], TEST.images[JUDGE]) == TEST.labels[JUDGE]
    assert first.accuracy_after == pytest.approx(float(right.double().mean()))


def test_images_that_are_among_both_are_counted(run: RunFolder, participants: Participants) -> None:
    """Even as floats."""
    shared = judged_by(run, TEST.images.float() / 255, TEST.labels)
    _, report, _ = repair_by_votes(shared, participants, VOTE_ONLY)
    assert (report.num_judged, report.num_heldout) == (len(TEST.labels), len(TEST.labels[JUDGE]))


def test_without_validation_images_clients_choose_and_the_server_may_judge(run: RunFolder) -> None:
    chosen_by_clients = participants_of(run, load_federation(run, TRAIN))
    case = judged_by(run, TEST.images, TEST.labels)
    _, report, stages = repair_by_votes(case, chosen_by_clients, VOTE_ONLY)
    assert report.num_judged == report.num_heldout == len(TEST.labels)
    _, claimed, same = voted(run, VOTE_ONLY, validated=False)
    assert torch.equal(state(stages["pruned"]), state(same["pruned"]))
    assert (claimed.num_judged, claimed.num_heldout) == (0, 0)
    assert "as the clients report it" in claimed.reason


def test_what_validation_images_chose_needs_others_to_judge_it(
    run: RunFolder, participants: Participants
) -> None:
    with pytest.raises(DataError, match="none to judge the result by"):
        repair_by_votes(judged_by(run), participants, VOTE_ONLY)
    with pytest.raises(DataError, match="with labels to judge by, or neither"):
        repair_by_votes(judged_by(run, TEST.images), participants, VOTE_ONLY)


class Broken(nn.Module):
    """Always NaN."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.full((len(images), 4), math.nan)


def instead(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[nn.Module], nn.Module]
) -> Callable[..., tuple[nn.Module | None, RepairReport, Any]]:
    """A repair by votes whose method ends with another model."""
    original = FederatedPruning.__call__

    def call(
        self: FederatedPruning, suspect: nn.Module, findings: Sequence[Finding], context: Context
    ) -> Candidate:
        return replace(original(self, suspect, findings, context), model=make(suspect))

    monkeypatch.setattr(FederatedPruning, "__call__", call)
    return repair_by_votes


@pytest.mark.parametrize("validated", [True, False])
def test_a_broken_model_has_failed(run: RunFolder, monkeypatch: pytest.MonkeyPatch, validated: bool) -> None:
    instead(monkeypatch, lambda _: Broken())
    model, report, _ = voted(run, VOTE_ONLY, validated=validated, reference_round=0)
    assert (model, report.outcome, report.verdict_after) == (None, "failed", None)
    assert "the repaired model returns NaN or infinite logits" in report.reason


def test_the_suspect_stays_as_found(
    run: RunFolder, participants: Participants, monkeypatch: pytest.MonkeyPatch
) -> None:
    def emptied(suspect: nn.Module) -> nn.Module:
        with torch.no_grad():
            for value in suspect.parameters():
                value.zero_()
        return suspect

    by_votes = instead(monkeypatch, emptied)
    case = judged_by(run, TEST.images[JUDGE], TEST.labels[JUDGE])
    before = state(case.suspect)
    by_votes(case, participants, VOTE_ONLY)
    assert torch.equal(state(case.suspect), before)


def test_the_rules_state_goes_on_where_the_run_ended(run: RunFolder, tmp_path: Path) -> None:
    """What a server's momentum holds after the last round belongs to the participants."""
    remembered = {"momentum": torch.arange(3.0)}
    path = run.checkpoint(run.last_round() or 0).with_suffix(".state.safetensors")
    assert not path.exists()
    save_state(remembered, path)
    try:
        found = participants_of(run, load_federation(run, TRAIN)).server.state
    finally:
        path.unlink()
    assert found.keys() == {"momentum"}
    assert torch.equal(found["momentum"], remembered["momentum"])
