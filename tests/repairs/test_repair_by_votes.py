from dataclasses import replace
from typing import Any

import pytest
import torch
from voting import TEST, TRAIN, attacked_run, details, voted

from fedmend.detection import Case, Finding, scanning
from fedmend.detection.base import Covered
from fedmend.federation import RunFolder, load_federation
from fedmend.repairs import VOTING_GATE, FederatedPruning, ValidationSet, repair_by_votes
from fedmend.repairs.simulated_run import participants_of, round_model

VOTE_ONLY = FederatedPruning(fine_tuning_rounds=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return attacked_run(tmp_path_factory.mktemp("run") / "out")


class Says:
    """A detector that always says this."""

    needs = frozenset[Any]()

    def __init__(self, verdict: Any, *coverage: Covered) -> None:
        self.verdict, self.coverage, self.images = verdict, coverage, 0

    def __call__(self, case: Any, rng: torch.Generator, progress: Any) -> Finding:
        self.images = len(case.images)
        return Finding("says", self.verdict, "Because.", 1.0, 0.5, coverage=self.coverage)


def test_without_a_reference_nothing_is_scanned_and_the_outcome_says_so(run: RunFolder) -> None:
    model, report, _ = voted(run, VOTE_ONLY)
    assert model is not None
    assert (report.outcome, report.verdict_after) == ("unverified", None)
    assert "nothing verified that the backdoor is gone" in report.reason


@pytest.mark.parametrize(("verdict", "outcome"), [("clean", "repaired"), ("backdoored", "failed")])
def test_with_a_reference_a_new_scan_decides(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, verdict: str, outcome: str
) -> None:
    """The run's model is no better than chance, which a scan would otherwise object to."""
    monkeypatch.setattr(scanning, "doubt", lambda case: None)
    says = Says(verdict)
    gate = replace(VOTING_GATE, detector=says)
    model, report, stages = voted(run, VOTE_ONLY, gate, reference_round=0)
    assert (report.outcome, report.verdict_after) == (outcome, verdict)
    assert (model is not None) == (outcome == "repaired")
    assert "pruned" in stages
    assert says.images == 12  # three a class


@pytest.mark.parametrize(("searched", "outcome"), [(True, "repaired"), (False, "unverified")])
def test_a_new_scan_that_did_not_search_for_what_the_clients_found_verifies_nothing(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, searched: bool, outcome: str
) -> None:
    monkeypatch.setattr(scanning, "doubt", lambda case: None)
    says = Says(
        "clean", Covered("patch, one-to-one", "small", searched, "" if searched else "too few images")
    )
    gate = replace(VOTING_GATE, detector=says, max_trigger_success=1.0, max_accuracy_drop=1.0)
    _, report, _ = voted(run, FederatedPruning(fine_tuning_rounds=1), gate, reference_round=0)
    assert details(report).triggers
    assert (report.outcome, report.verdict_after) == (outcome, "clean")
    assert ("did not search for one of a single source class" in report.reason) is not searched
    assert says.images == 32  # all, since a search for triggers of one class needs many


def test_a_reference_is_compared_with_only_if_a_trigger_works_in_the_suspect_alone(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it may be backdoored as well, and going back to it is no advice."""
    monkeypatch.setattr(scanning, "doubt", lambda case: None)
    gate = replace(VOTING_GATE, detector=Says("clean"))
    assert (
        voted(run, VOTE_ONLY, gate, reference_round=0)[1].accuracy_reference is None
    )  # no trigger was found
    method = FederatedPruning(fine_tuning_rounds=1)
    checks = voted(run, method, gate, reference_round=0)[1].target_checks
    alone = max(check.success_before - (check.success_reference or 0.0) for check in checks)
    assert 0 < alone < 1
    for limit, compared in ((alone, True), (alone + 0.01, False)):
        report = voted(run, method, replace(gate, max_trigger_success=limit), reference_round=0)[1]
        assert (report.accuracy_reference is not None) is compared


def test_a_trigger_of_the_clients_that_still_works_is_a_failure(run: RunFolder) -> None:
    method = FederatedPruning(fine_tuning_rounds=1)
    model, report, _ = voted(run, method)
    worst = max(report.target_checks, key=lambda check: check.success_after)
    assert worst.success_after >= 0.5  # so small a network is moved by any eight pixels
    assert (model, report.outcome) == (None, "failed")
    assert "a found trigger still works" in report.reason
    pairs = {(check.sources, check.target) for check in report.target_checks}
    assert pairs == {((each.source_class,), each.target_class) for each in details(report).triggers}
    lenient = replace(VOTING_GATE, max_trigger_success=1.0)
    if worst.success_after < 1:
        assert voted(run, method, lenient)[1].outcome == "unverified"


def test_without_images_the_clients_say_whether_their_triggers_still_work(run: RunFolder) -> None:
    """The limit is a setting of the gate."""
    method = FederatedPruning(fine_tuning_rounds=1)
    any_accuracy = replace(VOTING_GATE, max_accuracy_drop=1.0)
    model, report, _ = voted(run, method, any_accuracy, validated=False)
    worst = max(report.target_checks, key=lambda check: check.success_after)
    assert (model, report.outcome) == (None, "failed")
    assert f"a found trigger still works: it sends {worst.success_after:.0%} of the images" in report.reason


def test_a_fall_beyond_the_limit_is_a_failure(run: RunFolder) -> None:
    everything = replace(VOTE_ONLY, pruning=replace(VOTE_ONLY.pruning, max_drop=1.0))
    for validated in (True, False):
        model, report, _ = voted(run, everything, VOTING_GATE, validated=validated)
        fell = report.accuracy_before - report.accuracy_after - report.accuracy_error
        assert (report.outcome == "failed") == (fell > 0.05)
        assert (model is None) == (report.outcome == "failed")


def test_the_defence_opens_nothing_of_the_attackers(run: RunFolder, opened: list[str]) -> None:
    """And it would be noticed: the simulation, which plays the attackers, opens what they know."""
    participants = participants_of(run, load_federation(run, TRAIN))
    validation = ValidationSet(TEST.images, TEST.labels)
    assert any("attacker" in path for path in opened)
    opened.clear()
    case = Case(round_model(run, TRAIN), round_model(run, TRAIN, 0), TEST.images, TEST.labels)
    method = FederatedPruning(fine_tuning_rounds=1)
    repair_by_votes(case, replace(participants, validation=validation), method)
    mine = [path for path in opened if str(run.path) in path]
    assert any("round-0003" in path for path in mine)
    assert not any("attacker" in path for path in mine)
