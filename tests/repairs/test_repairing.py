import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.detection import Case, ContrastivePaper, Differential, Finding, ScanReport, scan
from fedmend.errors import ConfigError, DataError
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.goals import AllToOne
from fedmend.parameters import flatten
from fedmend.repairs import FIVE_EPOCHS, Candidate, Context, HoldOutGate, RepairReport, Unlearning, repair
from fedmend.repairs.held_out_images import images_learned_from
from fedmend.repairs.repair_report import UnlearningDetails

BRIEF = ContrastivePaper(alpha=0.1, beta=0.03, steps=2)


@pytest.fixture(scope="module")
def report(world: planted.World) -> ScanReport:
    case = Case(world.backdoored, world.reference, world.images[:12], world.labels[:12])
    return scan(case, Differential(), seed=0)


def repaired(
    world: planted.World, report: ScanReport, *choices: Any, images: Tensor | None = None, **more: Any
) -> tuple[nn.Module | None, RepairReport]:
    given = world.images[:200] if images is None else images
    case = Case(world.backdoored, world.reference, given, world.labels[: len(given)])
    return repair(case, report, *choices, **{"seed": 0} | more)


def test_the_seed_is_drawn_anew_and_recorded(world: planted.World, report: ScanReport) -> None:
    clean = replace(report, verdict="clean")
    seeds = [repaired(world, clean, seed=seed)[1].settings["seed"] for seed in (None, None, 7)]
    assert seeds[0] != seeds[1]
    assert seeds[2] == 7


def with_verdict(report: ScanReport, verdict: Any) -> ScanReport:
    findings = tuple(replace(finding, verdict=verdict) for finding in report.findings)
    return replace(report, verdict=verdict, findings=findings)


@dataclass
class Made:
    """A repair that returns this model, or a copy of the suspect."""

    model: nn.Module | None = None
    calls: list[tuple[nn.Module, list[Finding], Context]] = field(default_factory=list)

    def __call__(self, suspect: nn.Module, findings: Sequence[Finding], context: Context) -> Candidate:
        self.calls.append((suspect, list(findings), context))
        details = UnlearningDetails(context.attempt, len(findings))
        return Candidate(deepcopy(self.model or suspect), "Something was done", details)


@pytest.mark.parametrize(("count", "outcome"), [(40, "unverified"), (200, "repaired")])
def test_a_new_scan_that_cannot_search_for_what_was_found_verifies_nothing(
    world: planted.World, report: ScanReport, count: int, outcome: str
) -> None:
    """Half of 40 images are five of a class."""
    finding = report.findings[0]
    pair = replace(finding, targets=tuple(replace(target, sources=(0,)) for target in finding.targets))
    found = replace(report, num_images=100, findings=(pair,))
    gate = HoldOutGate(max_accuracy_drop=0.03, detector=Differential(search=planted.SHORT))
    _, result = repaired(world, found, Made(world.clean), gate, images=world.images[:count])
    assert result.outcome == outcome
    assert ("did not search for one of a single source class" in result.reason) == (outcome == "unverified")


def constant(model: nn.Module) -> nn.Module:
    """It predicts class 0 for everything."""
    copy: Any = deepcopy(model)
    with torch.no_grad():
        copy[5].bias[0] += 1000
    return copy  # type: ignore[no-any-return]


def test_a_planted_backdoor_is_taken_out(world: planted.World, report: ScanReport) -> None:
    before = deepcopy(world.backdoored)
    told: set[str] = set()
    model, result = repaired(
        world,
        report,
        Unlearning(epochs=10),
        HoldOutGate(max_accuracy_drop=0.03, detector=planted.QUICK),
        progress=lambda stage, *_: told.add(stage),
    )
    assert result.outcome == "repaired"
    assert result.verdict_after == "clean"
    assert model is not None
    unseen, goal = (world.images[200:], world.labels[200:]), AllToOne(planted.TARGET)
    assert accuracy(model, *unseen) > 0.95
    assert attack_success_rate(world.backdoored, planted.patch(), goal, *unseen) > 0.95
    assert attack_success_rate(model, planted.patch(), goal, *unseen) < 0.15
    check = result.target_checks[0]
    assert (check.target, check.sources) == (planted.TARGET, ())
    assert check.success_before > 0.8
    assert check.success_after < 0.5
    assert check.triggers > 1
    assert result.num_judged == result.num_heldout == 100
    assert result.accuracy_after >= result.accuracy_before - 0.03
    assert result.accuracy_reference is not None
    assert result.accuracy_reference > 0.95
    assert "A new scan finds no backdoor" in result.reason
    assert f"from {result.accuracy_before:.1%} to {result.accuracy_after:.1%}" in result.reason
    assert isinstance(result.details, UnlearningDetails)
    assert 1 <= result.details.passes <= 3
    assert result.details.triggers > 2
    assert told == {"trigger inversion", "unlearning"}
    assert torch.equal(flatten(world.backdoored.state_dict()), flatten(before.state_dict()))
    assert not world.backdoored.training
    assert all(p.requires_grad and p.grad is None for p in world.backdoored.parameters())
    assert RepairReport.from_json(result.to_json()) == result
    assert result.method == "Unlearning"
    assert (result.settings["epochs"], result.settings["seed"]) == (10, 0)
    assert result.settings["gate"]["detector"] == "Differential"


def test_a_repair_that_costs_too_much_has_failed(world: planted.World, report: ScanReport) -> None:
    made = Made(constant(world.backdoored))
    model, result = repaired(world, report, made, HoldOutGate(max_passes=1, detector=BRIEF))
    assert model is None
    assert result.outcome == "failed"
    assert result.accuracy_before == 1.0
    assert result.accuracy_after < 0.5
    assert f"± {result.accuracy_error:.1%}; allowed is 1.0%" in result.reason
    ((suspect, findings, context),) = made.calls
    assert torch.equal(flatten(suspect.state_dict()), flatten(world.backdoored.state_dict()))
    assert context.reference is world.reference
    assert context.images is not None
    assert len(context.images) == 100  # the held-out half isn't trained on
    assert findings[0].targets[0].trigger == report.findings[0].targets[0].trigger
    assert findings[0].targets[0].variants == ()


def test_a_backdoor_that_stays_is_a_failure(world: planted.World, report: ScanReport) -> None:
    model, result = repaired(world, report, Made(), HoldOutGate(max_passes=1, detector=planted.QUICK))
    assert model is None
    assert (result.outcome, result.verdict_after) == ("failed", "backdoored")
    assert result.details == UnlearningDetails(1, 3)
    assert "the new scan's verdict is backdoored" in result.reason
    assert result.accuracy_after == result.accuracy_before


@pytest.mark.parametrize("verdict", ["inconclusive", "clean"])
def test_neither_an_unsure_scan_nor_a_clean_one_beside_a_working_trigger_is_a_success(
    world: planted.World, report: ScanReport, monkeypatch: pytest.MonkeyPatch, verdict: str
) -> None:
    says = with_verdict(report, verdict)
    monkeypatch.setattr(sys.modules["fedmend.repairs.gate"], "scan", lambda *_, **__: says)
    model, result = repaired(world, report, Made(), HoldOutGate(max_passes=1, max_accuracy_drop=1.0))
    assert model is None
    assert (result.outcome, result.verdict_after) == ("failed", verdict)
    assert result.target_checks[0].success_after > 0.8
    assert ("a found trigger still works: it sends 100%" in result.reason) == (verdict == "clean")


@pytest.mark.parametrize(("verdict", "outcome"), [("clean", "not needed"), ("inconclusive", "undecided")])
def test_without_a_backdoor_nothing_is_changed(
    world: planted.World, report: ScanReport, verdict: str, outcome: str
) -> None:
    made = Made()
    model, result = repaired(world, with_verdict(report, verdict), made)
    assert model is None
    assert made.calls == []
    assert (result.outcome, result.details, result.verdict_after) == (outcome, None, None)
    assert result.accuracy_after == result.accuracy_before
    assert "nothing was changed" in result.reason


def test_a_finding_without_a_trigger_cannot_be_repaired(world: planted.World, report: ScanReport) -> None:
    bare = replace(report.findings[0], targets=(replace(report.findings[0].targets[0], trigger=None),))
    for findings in ((bare,), (replace(bare, targets=()),)):
        model, result = repaired(world, replace(report, findings=findings), Made())
        assert model is None
        assert result.outcome == "undecided"
        assert "recovered no trigger" in result.reason


def test_each_pass_begins_from_the_suspect_with_all_that_was_found(
    world: planted.World, report: ScanReport
) -> None:
    made = Made()
    repaired(world, report, made, HoldOutGate(max_passes=2, detector=planted.QUICK))
    (first, before, context), (second, after, later) = made.calls
    assert first is not second
    for suspect in (first, second):
        assert torch.equal(flatten(suspect.state_dict()), flatten(world.backdoored.state_dict()))
    assert (len(before), len(after)) == (3, 4)
    assert after[:3] == before
    assert (context.attempt, later.attempt) == (1, 2)
    assert context.seed != later.seed


def test_what_is_repaired_comes_from_two_searches_of_other_images(
    world: planted.World, report: ScanReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned: list[tuple[Case, Any, int]] = []

    def spy(case: Case, detector: Any, *, seed: int, progress: Any) -> ScanReport:
        scanned.append((case, detector, seed))
        return scan(case, BRIEF, seed=seed)

    monkeypatch.setattr(sys.modules["fedmend.repairs.gate"], "scan", spy)
    repaired(world, report, Made(), HoldOutGate(max_passes=1))
    (first, detector, seed), (second, other, another), (last, _, _) = scanned
    assert detector == other == Differential()
    assert first.images is not None
    assert second.images is not None
    assert len(first.images) == report.num_images
    assert not torch.equal(first.images, second.images)
    assert seed != another
    assert first.suspect is second.suspect is world.backdoored
    assert last.suspect is not world.backdoored


def test_images_may_be_floats_of_any_precision(world: planted.World, report: ScanReport) -> None:
    made, gate = Made(constant(world.backdoored)), HoldOutGate(max_passes=1, detector=BRIEF)
    _, result = repaired(world, report, made, gate, images=world.images[:200].double() / 255)
    _, bytes_ = repaired(world, report, made, gate)
    assert result.accuracy_after == bytes_.accuracy_after


class InPlace(nn.Sequential):
    """Normalises its input in place."""

    def forward(self, images: Tensor) -> Tensor:
        images.sub_(0.5)
        logits: Tensor = super().forward(images + 0.5)
        return logits


def test_models_that_work_in_place_change_no_images(world: planted.World, report: ScanReport) -> None:
    suspect, reference = (InPlace(*deepcopy(model)) for model in (world.backdoored, world.reference))
    images = world.images[:200] / 255
    kept = images.clone()
    gate = HoldOutGate(max_passes=1, detector=BRIEF)
    scan(Case(suspect, reference, images[:40], world.labels[:40]), planted.QUICK, seed=0)
    _, result = repair(
        Case(suspect, reference, images, world.labels[:200]), report, Unlearning(epochs=1), gate, seed=0
    )
    assert result.accuracy_after == pytest.approx(result.accuracy_before, abs=0.2)
    assert torch.equal(images, kept)


def test_a_model_of_double_precision(world: planted.World) -> None:
    suspect, reference = deepcopy(world.backdoored).double(), deepcopy(world.reference).double()
    case = Case(suspect, reference, world.images[:12], world.labels[:12])
    found = scan(case, planted.QUICK, seed=0)
    assert found.verdict == "backdoored"
    case = Case(suspect, reference, world.images[:200], world.labels[:200])
    model, result = repair(
        case, found, Unlearning(epochs=10), HoldOutGate(max_accuracy_drop=1.0, detector=planted.QUICK), seed=0
    )
    assert result.outcome == "repaired"
    assert model is not None
    assert {value.dtype for value in model.parameters()} == {torch.float64}


def test_too_few_images_are_refused(world: planted.World, report: ScanReport) -> None:
    with pytest.raises(DataError, match="at least 20 images"):
        repaired(world, report, images=world.images[:19])
    case = Case(world.backdoored, world.reference, world.images[:200], world.labels[:199])
    with pytest.raises(DataError, match="one label per image"):
        repair(case, report)
    with pytest.raises(DataError, match="the case has none"):
        repair(replace(case, labels=None), report)
    few = replace(case, images=world.images[:20], labels=world.labels[:20])
    with pytest.raises(ConfigError, match="leaves 9 of 20 images to repair with; expected at least 10"):
        repair(few, report, gate=HoldOutGate(held_out_fraction=0.55))


def test_the_default_is_unlearning_for_five_epochs() -> None:
    assert replace(Unlearning(), epochs=5) == FIVE_EPOCHS


def test_what_a_repair_learned_from_is_what_did_not_judge_it(
    world: planted.World, report: ScanReport
) -> None:
    seen: list[Tensor] = []

    class Spy:
        def __call__(self, suspect: nn.Module, findings: Any, context: Any) -> Candidate:
            seen.append(context.images)
            return Candidate(suspect, "Nothing was done", UnlearningDetails(1, 1))

    gate = HoldOutGate(held_out_fraction=0.25, detector=planted.QUICK)
    case = Case(world.backdoored, world.reference, world.images[:80], world.labels[:80])
    _, result = repair(case, report, Spy(), gate)
    learned = images_learned_from(case, gate, result)
    assert len(learned) == 60
    assert torch.equal(learned, seen[0])
