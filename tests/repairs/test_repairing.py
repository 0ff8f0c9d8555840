import sys
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import planted
from fedmend.detection import THOROUGH, Contrastive, Search
from fedmend.detection.scan_report import ScanReport
from fedmend.detection.scanning import scan
from fedmend.errors import ConfigError, DataError
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.goals import AllToOne
from fedmend.parameters import flatten
from fedmend.repairs.repairing import REPAIR, RepairReport, _Check, repair
from fedmend.repairs.unlearning import Unlearning
from fedmend.triggers import Patch

pytestmark = pytest.mark.usefixtures("one_thread")

BRIEF = Contrastive(search=Search(steps=2, starts=1))


@pytest.fixture(scope="module")
def report(world: planted.World, one_thread: None) -> ScanReport:
    return scan(
        world.backdoored,
        reference=world.reference,
        images=world.images[:12],
        labels=world.labels[:12],
        method=THOROUGH,
    )


def repaired(
    world: planted.World, report: ScanReport, **changes: Any
) -> tuple[nn.Module | None, RepairReport]:
    values: dict[str, Any] = {
        "reference": world.reference,
        "images": world.images[:200],
        "labels": world.labels[:200],
        "report": report,
    }
    return repair(world.backdoored, **(values | changes))


def test_a_planted_backdoor_is_taken_out(world: planted.World, report: ScanReport) -> None:
    before = deepcopy(world.backdoored)
    told: set[str] = set()
    model, result = repaired(
        world,
        report,
        method=Unlearning(epochs=10),
        max_accuracy_drop=0.03,
        progress=lambda stage, *_: told.add(stage),
    )
    assert result.outcome == "repaired"
    assert result.verdict_after == "clean"
    assert model is not None
    unseen = world.images[200:], world.labels[200:]
    assert accuracy(model, *unseen) > 0.95
    assert attack_success_rate(world.backdoored, planted.patch(), AllToOne(planted.TARGET), *unseen) > 0.95
    assert attack_success_rate(model, planted.patch(), AllToOne(planted.TARGET), *unseen) < 0.15
    assert result.reasr_before > 0.8
    assert result.reasr_after < 0.2
    assert result.num_heldout == 100
    assert result.accuracy_after >= result.accuracy_before - 0.03
    assert "scan finds none" in result.reason
    assert f"from {result.accuracy_before:.1%} to {result.accuracy_after:.1%}" in result.reason
    assert 1 <= result.passes <= 3
    assert result.triggers > 2
    assert told == {"trigger inversion", "unlearning"}
    assert torch.equal(flatten(world.backdoored.state_dict()), flatten(before.state_dict()))
    assert not world.backdoored.training
    assert all(p.requires_grad and p.grad is None for p in world.backdoored.parameters())
    assert RepairReport.from_json(result.to_json()) == result


def ruin(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Patch], torch.Tensor, dict[str, Any]]]:
    """Unlearning that leaves a model which answers class 0 to everything; returns what it was given."""
    calls = []

    def unlearn(
        self: Unlearning, model: nn.Module, triggers: Any, images: Any, *_: Any, **options: Any
    ) -> nn.Module:
        calls.append((triggers, images, options))
        copy = deepcopy(model)
        with torch.no_grad():
            copy[5].bias[0] += 1000
        return copy

    monkeypatch.setattr(Unlearning, "__call__", unlearn)
    return calls


def test_a_repair_that_costs_too_much_has_failed(
    world: planted.World, report: ScanReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = ruin(monkeypatch)
    kept = deepcopy(world.backdoored.state_dict())
    model, result = repaired(world, report, scan_method=BRIEF, max_passes=1)
    assert model is None
    assert result.outcome == "failed"
    assert result.accuracy_before == 1.0
    assert result.accuracy_after < 0.5
    assert "went from 100.0% to" in result.reason
    assert f"to {result.accuracy_after:.1%}: " in result.reason
    assert f"give or take {result.accuracy_error:.1%}, where 1.0% is allowed" in result.reason
    assert all(torch.equal(value, kept[name]) for name, value in world.backdoored.state_dict().items())
    ((triggers, images, options),) = calls
    assert len(images) == 100  # the held-out half isn't trained on
    assert options["teachers"] == (world.backdoored, world.reference)
    assert triggers[0] == report.trigger


def test_a_backdoor_that_stays_is_a_failure(
    world: planted.World, report: ScanReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Unlearning, "__call__", lambda _, model, *__, **___: deepcopy(model))
    model, result = repaired(world, report, max_passes=1)
    assert model is None
    assert (result.outcome, result.verdict_after, result.passes) == ("failed", "backdoored", 1)
    assert "a new scan still says backdoored" in result.reason
    assert result.accuracy_after == result.accuracy_before


def test_a_second_scan_that_is_inconclusive_is_no_success(
    world: planted.World, report: ScanReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsure = replace(report, verdict="inconclusive")
    monkeypatch.setattr(sys.modules["fedmend.repairs.repairing"], "scan", lambda *_, **__: unsure)
    model, result = repaired(world, report, max_passes=1, max_accuracy_drop=1.0)
    assert model is None
    assert (result.outcome, result.verdict_after) == ("failed", "inconclusive")


def test_a_trigger_that_still_works_is_a_failure_whatever_the_new_scan_says(
    world: planted.World, report: ScanReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = replace(report, verdict="clean")
    monkeypatch.setattr(sys.modules["fedmend.repairs.repairing"], "scan", lambda *_, **__: clean)
    monkeypatch.setattr(Unlearning, "__call__", lambda _, model, *__, **___: deepcopy(model))
    model, result = repaired(world, report)
    assert model is None
    assert (result.outcome, result.verdict_after) == ("failed", "clean")
    assert result.reasr_after > 0.8
    assert "the recovered trigger still works on 100% of the held-out images" in result.reason


def test_an_unlearning_that_diverges_says_so(
    world: planted.World, report: ScanReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(self: Unlearning, model: nn.Module, *_: Any, **__: Any) -> nn.Module:
        copy = deepcopy(model)
        with torch.no_grad():
            copy[5].bias[0] = float("nan")
        return copy

    monkeypatch.setattr(Unlearning, "__call__", diverge)
    with pytest.raises(ConfigError, match=r"diverged.*lower lr"):
        repaired(world, report)


@pytest.mark.parametrize(("verdict", "outcome"), [("clean", "not needed"), ("inconclusive", "undecided")])
def test_without_a_backdoor_nothing_is_changed(
    world: planted.World, report: ScanReport, verdict: Any, outcome: str
) -> None:
    model, result = repaired(world, replace(report, verdict=verdict))
    assert model is None
    assert result.outcome == outcome
    assert (result.passes, result.triggers, result.verdict_after) == (0, 0, None)
    assert result.accuracy_after == result.accuracy_before
    assert result.reasr_after == result.reasr_before
    assert "nothing was changed" in result.reason


@pytest.mark.parametrize(("wrong", "outcome"), [(1, "repaired"), (2, "failed")])
def test_the_limit_itself_is_allowed(
    world: planted.World, report: ScanReport, monkeypatch: pytest.MonkeyPatch, wrong: int, outcome: str
) -> None:
    """1.0 - 0.99 is more than 0.01 in floating point."""
    monkeypatch.setattr(Unlearning, "__call__", lambda *_, **__: deepcopy(world.clean))
    shares = iter([1.0, 1.0 - wrong / 100])
    monkeypatch.setattr(sys.modules["fedmend.repairs.repairing"], "accuracy", lambda *_: next(shares))
    search = Contrastive(search=Search(starts=1))
    _, result = repaired(world, report, scan_method=search, max_passes=1)
    assert result.outcome == outcome


def test_each_pass_begins_from_the_suspect_with_all_that_was_found(
    world: planted.World, report: ScanReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[nn.Module, int]] = []

    def unlearn(self: Unlearning, model: nn.Module, triggers: list[Patch], *_: Any, **__: Any) -> nn.Module:
        given.append((model, len(triggers)))
        return deepcopy(model)

    monkeypatch.setattr(Unlearning, "__call__", unlearn)
    _, result = repaired(world, report, max_passes=2)
    assert [model is world.backdoored for model, _ in given] == [True, True]
    assert 2 < given[0][1] < given[1][1] == result.triggers


def test_what_is_unlearned_comes_from_two_thorough_scans_of_other_images(
    world: planted.World, report: ScanReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, module = ruin(monkeypatch), sys.modules["fedmend.repairs.repairing"]
    scanned: list[tuple[ScanReport, dict[str, Any]]] = []

    def spy(model: nn.Module, **options: Any) -> ScanReport:
        scanned.append((scan(model, **options | {"method": BRIEF}), options))
        return scanned[-1][0]

    monkeypatch.setattr(module, "scan", spy)
    monkeypatch.setattr(module, "_judge", lambda *_: ("failed", ""))
    repaired(world, report, max_passes=1)
    (first, options), (second, others), (_, last) = scanned
    assert all(each["method"] is THOROUGH for each in (options, others, last))
    assert not torch.equal(options["images"], others["images"])
    assert options["seed"] != others["seed"]
    found = [
        each for one in (first, second) if one.verdict != "clean" for each in (one.trigger, *one.variants)
    ]
    assert [id(each) for each in calls[0][0]] == [id(each) for each in (report.trigger, *found)]


@pytest.mark.parametrize(
    "changes",
    [
        {"held_out_share": 0.0},
        {"held_out_share": 1.0},
        {"max_accuracy_drop": -0.01},
        {"max_accuracy_drop": float("nan")},
        {"max_accuracy_drop": 1.01},
        {"max_passes": 0},
    ],
)
def test_settings_out_of_range_are_refused(
    world: planted.World, report: ScanReport, changes: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="held_out_share must be in"):
        repaired(world, report, **changes)


def test_images_may_be_floats_of_any_precision(world: planted.World, report: ScanReport) -> None:
    _, result = repaired(world, report, images=world.images[:200].double() / 255, max_passes=1)
    _, bytes_ = repaired(world, report, max_passes=1)
    assert result.accuracy_after == bytes_.accuracy_after


def test_a_model_of_double_precision(world: planted.World) -> None:
    suspect, reference = deepcopy(world.backdoored).double(), deepcopy(world.reference).double()
    images, labels = world.images[:12], world.labels[:12]
    found = scan(suspect, reference=reference, images=images, labels=labels, method=THOROUGH)
    assert found.verdict == "backdoored"
    settings = {"reference": reference, "images": world.images[:200], "labels": world.labels[:200]}
    method = Unlearning(epochs=10)
    model, result = repair(suspect, report=found, method=method, max_accuracy_drop=1.0, **settings)
    assert result.outcome == "repaired"
    assert model is not None
    assert {value.dtype for value in model.parameters()} == {torch.float64}


def test_too_few_images_are_refused(world: planted.World, report: ScanReport) -> None:
    with pytest.raises(DataError, match="at least 20 images"):
        repaired(world, report, images=world.images[:19], labels=world.labels[:19])
    with pytest.raises(DataError, match="label each"):
        repaired(world, report, labels=world.labels[:199])


def test_the_default_is_unlearning_for_five_epochs() -> None:
    assert replace(Unlearning(), epochs=5) == REPAIR


def test_the_error_of_a_fall_counts_the_images_on_which_the_models_differ():
    """Of 4 images the first model gets all right and the second 2: differences 0, 0, 1, 1, sd 0.5, error 0.25."""

    class Fixed(torch.nn.Module):
        def __init__(self, answers: list[int]) -> None:
            super().__init__()
            self.answers = torch.tensor(answers)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(self.answers, 2).float()

    check = _Check(torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 0, 1]), None)
    assert check.error_of_fall(Fixed([0, 1, 0, 1]), Fixed([0, 1, 1, 0])) == pytest.approx(0.25)
