from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.detection import (
    Case,
    ContrastivePaper,
    Detector,
    Differential,
    Finding,
    Need,
    ScanReport,
    Target,
    find_detector,
    recovered,
    scan,
)
from fedmend.errors import ConfigError, DataError
from fedmend.parameters import flatten
from fedmend.progress import Progress, silent
from fedmend.seeds import generator
from fedmend.triggers import Patch

BRIEF = ContrastivePaper(alpha=0.1, beta=0.03, steps=2)


def scanned(
    world: planted.World, suspect: nn.Module, detectors: Any = BRIEF, seed: int = 0, **changes: Any
) -> ScanReport:
    case = Case(suspect, world.reference, world.images[:12], world.labels[:12], planted.NAMES)
    return scan(replace(case, **changes), detectors, seed=seed)


def mask(report: ScanReport) -> Tensor:
    target = recovered(report.findings[0])
    assert target is not None
    assert isinstance(target.trigger, Patch)
    return target.trigger.mask


@dataclass(frozen=True)
class Stub:
    """Another's detector: needs, finds and draws what it is told to."""

    needs: frozenset[Need] = frozenset()
    verdict: Any = "clean"
    target: Target | None = None
    name: str = "stub"

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        drawn = float(torch.rand((), generator=rng))
        frozen = all(not each.training for each in case.suspect.modules())
        frozen &= not any(each.requires_grad for each in case.suspect.parameters())
        targets = () if self.target is None else (self.target,)
        return Finding(self.name, self.verdict, f"Frozen: {frozen}.", drawn, float("nan"), targets=targets)


@pytest.fixture(scope="module")
def report(world: planted.World) -> ScanReport:
    return scanned(world, world.backdoored, None)


def test_by_default_the_one_detector_is_differential(world: planted.World, report: ScanReport) -> None:
    (finding,) = report.findings
    assert (finding.detector, finding.verdict, finding.seconds > 0) == ("differential", "backdoored", True)
    assert (report.verdict, report.reason) == (finding.verdict, finding.reason)
    assert report.class_names == planted.NAMES
    assert report.suspect_accuracy == report.reference_accuracy == 1.0
    assert (report.seed, report.num_images, report.device, report.warnings) == (0, 12, "cpu", ())
    assert report.seconds >= finding.seconds
    assert set(report.versions) == {"fedmend", "torch", "python"}
    again = Differential()(
        Case(world.backdoored, world.reference, world.images[:12], world.labels[:12]),
        torch.Generator().manual_seed(generator(0, "scan").initial_seed()),
    )
    assert torch.equal(mask(report), again.targets[0].trigger.mask)  # type: ignore[union-attr]


def test_the_examples_are_of_other_classes_first(world: planted.World, report: ScanReport) -> None:
    (shown,) = report.examples
    assert (shown.detector, shown.target, shown.number) == ("differential", planted.TARGET, 0)
    assert shown.images.dtype == torch.uint8
    assert len(shown.images) == 8
    others = (world.labels[:12] != planted.TARGET).nonzero().flatten()[:8]
    assert torch.equal(shown.images, world.images[others])
    assert shown.labels is not None
    assert torch.equal(shown.labels, world.labels[others])
    assert not bool((shown.labels == planted.TARGET).any())
    assert torch.equal(shown.suspect_clean, shown.labels)
    assert bool((shown.suspect_stamped == planted.TARGET).float().mean() > 0.5)
    assert shown.reference_stamped is not None
    assert bool((shown.reference_stamped == planted.TARGET).float().mean() < 0.5)


def test_a_real_report_survives_json(report: ScanReport) -> None:
    text = report.to_json()
    again = ScanReport.from_json(text)
    assert again.to_json() == text
    assert torch.equal(mask(again), mask(report))
    assert again.findings[0].measures == report.findings[0].measures


def test_several_detectors_in_any_order_find_what_each_finds_alone(world: planted.World) -> None:
    other = Stub(verdict="inconclusive", name="other")
    both, turned = (scanned(world, world.clean, order) for order in ((BRIEF, other), [other, BRIEF]))
    alone = scanned(world, world.clean, other)
    assert [finding.detector for finding in both.findings] == ["contrastive-paper", "other"]
    assert [finding.detector for finding in turned.findings] == ["other", "contrastive-paper"]
    assert torch.equal(mask(both), mask(scanned(world, world.clean)))
    assert both.findings[0].loss_curve == turned.findings[1].loss_curve
    assert both.findings[1].suspicious == turned.findings[0].suspicious == alone.findings[0].suspicious
    assert both.verdict == "inconclusive"
    assert "other: Frozen: True." in both.reason
    assert [shown.detector for shown in both.examples] == ["contrastive-paper"]


def test_two_of_one_name_are_numbered(world: planted.World) -> None:
    found = scanned(world, world.clean, (Stub(), BRIEF, Stub(verdict="backdoored")))
    assert [each.detector for each in found.findings] == ["stub (1)", "contrastive-paper", "stub (2)"]
    assert found.reason == "stub (2): Frozen: True."


def test_time_and_settings_are_filled_in_unless_given(world: planted.World) -> None:
    (finding,) = scanned(world, world.clean, Stub(name="x")).findings
    assert finding.seconds > 0
    assert finding.settings["name"] == "x"
    assert scanned(world, world.clean, Given()).findings[0].seconds == 7.0
    assert scanned(world, world.clean, Given()).findings[0].settings == {"own": 1}


class Given(Stub):
    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        return replace(super().__call__(case, rng), seconds=7.0, settings={"own": 1})


def test_another_error_of_a_detector_is_its_own(world: planted.World) -> None:
    class Failing(Stub):
        def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
            raise DataError("this won't do")

    suspect = deepcopy(world.clean).train()
    with pytest.raises(DataError, match="this won't do"):
        scanned(world, suspect, Failing())
    assert suspect.training
    assert all(parameter.requires_grad for parameter in suspect.parameters())


# What is missing


def test_a_scan_without_a_reference_works_for_those_that_need_none(world: planted.World) -> None:
    trigger = Target(planted.TARGET, 1.0, trigger=planted.patch())
    found = scanned(world, world.backdoored, Stub(target=trigger), reference=None)
    assert (found.verdict, found.reference_accuracy, found.suspect_accuracy) == ("clean", None, 1.0)
    assert found.warnings == ()
    (shown,) = found.examples
    assert shown.reference_stamped is None
    assert bool((shown.suspect_stamped == planted.TARGET).all())
    assert ScanReport.from_json(found.to_json()).examples[0].reference_stamped is None


def test_a_scan_without_images_works_for_those_that_need_none(world: planted.World) -> None:
    trigger = Target(planted.TARGET, 1.0, trigger=planted.patch())
    found = scanned(world, world.clean, Stub(target=trigger), reference=None, images=None, labels=None)
    assert (found.num_images, found.suspect_accuracy, found.examples, found.warnings) == (0, None, (), ())
    assert found.class_names == planted.NAMES


def test_without_labels_accuracy_is_unknown(world: planted.World) -> None:
    found = scanned(world, world.clean, labels=None)
    assert any(warning.startswith("No labels were given") for warning in found.warnings)
    assert found.reference_accuracy is found.suspect_accuracy is found.examples[0].labels is None


@pytest.mark.parametrize(
    ("lacks", "needs", "told"),
    [
        (
            {"reference": None},
            {Need.REFERENCE},
            "needs a clean reference model, and none was given.*such as .*mm-bd",
        ),
        (
            {"labels": None},
            {Need.LABELS},
            "needs the images' labels.*such as abs, .*differential",
        ),
        (
            {"reference": None, "images": None, "labels": None},
            set(Need),
            "needs a clean reference model and clean images and the images' labels.*such as deep-inspect, mm-bd",
        ),
    ],
)
def test_what_is_missing_is_named_with_detectors_that_need_less(
    world: planted.World, lacks: dict[str, Any], needs: set[Need], told: str
) -> None:
    with pytest.raises(ConfigError, match=f"the detector Stub {told}"):
        scanned(world, world.clean, Stub(frozenset(needs)), **lacks)


@pytest.mark.parametrize("wrong", [Differential, lambda case, rng, progress: None, "differential", (3,)])
def test_what_is_no_detector_is_refused(world: planted.World, wrong: Any) -> None:
    with pytest.raises(ConfigError, match="expected a detector: an object with needs"):
        scanned(world, world.clean, wrong)


def test_no_detector_at_all_is_refused(world: planted.World) -> None:
    with pytest.raises(ConfigError, match="at least one detector"):
        scanned(world, world.clean, ())


def test_what_is_no_finding_is_refused(world: planted.World) -> None:
    class Wrong:
        needs: ClassVar[frozenset[Need]] = frozenset()

        def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
            return "backdoored"  # type: ignore[return-value]

    with pytest.raises(ConfigError, match="returned a str; expected a Finding"):
        scanned(world, world.clean, Wrong())


def test_detectors_are_found_by_name(world: planted.World) -> None:
    detector: Detector = find_detector("Contrastive_Paper_MNIST")
    assert detector == find_detector("contrastive-paper-mnist")
    with pytest.raises(ConfigError, match="there is no detector 'differentia'; did you mean differential"):
        find_detector("differentia")


# Whole scans


def test_models_and_images_are_left_as_found(world: planted.World) -> None:
    suspect, reference = deepcopy(world.backdoored).train(), deepcopy(world.reference)
    images, labels = world.images[:12].clone(), world.labels[:12].clone()
    scanned(world, suspect, reference=reference, images=images, labels=labels)
    assert suspect.training
    assert not reference.training
    assert torch.equal(flatten(suspect.state_dict()), flatten(world.backdoored.state_dict()))
    assert torch.equal(flatten(reference.state_dict()), flatten(world.reference.state_dict()))
    assert all(p.requires_grad and p.grad is None for p in [*suspect.parameters(), *reference.parameters()])
    assert torch.equal(images, world.images[:12])
    assert torch.equal(labels, world.labels[:12])


def test_the_seed_alone_decides(world: planted.World) -> None:
    first, again, other = (scanned(world, world.clean, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(mask(first), mask(again))
    assert not torch.equal(mask(first), mask(other))
    case = Case(world.clean, world.reference, world.images[:12], world.labels[:12])
    assert len({scan(case, Stub()).seed for _ in range(3)}) > 1  # none was given, so each is drawn


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_bytes_and_floats_are_the_same_images(world: planted.World, kind: torch.dtype) -> None:
    stored = scanned(world, world.backdoored)
    floats = scanned(world, world.backdoored, images=world.images[:12].to(kind) / 255)
    assert torch.allclose(mask(stored), mask(floats), atol=1e-5)
    assert torch.equal(stored.examples[0].images, floats.examples[0].images)


def test_a_model_in_double_precision_is_scanned_in_it(world: planted.World) -> None:
    pair = deepcopy(world.backdoored).double(), deepcopy(world.reference).double()
    assert scanned(world, pair[0], reference=pair[1]).num_images == 12


def test_a_case_can_be_scanned_again_after_its_model_changed(world: planted.World) -> None:
    suspect = deepcopy(world.clean)
    case = Case(suspect, world.reference, world.images[:12], world.labels[:12])
    assert scan(case, Stub()).suspect_accuracy == 1.0
    assert bool((case.suspect_logits.argmax(1) == world.labels[:12]).all())
    with torch.no_grad():
        suspect[5].bias[2] += 100
    assert scan(case, Stub()).suspect_accuracy == 0.25


def test_a_poor_reference_makes_it_inconclusive(world: planted.World) -> None:
    untrained = planted.small(planted.CLASSES, 1, (planted.SIDE, planted.SIDE))
    with torch.no_grad():
        untrained[5].bias[0] += 100
    found = scanned(world, world.backdoored, reference=untrained)
    assert found.verdict == "inconclusive"
    assert found.reference_accuracy == 0.25
    assert 'predicts "north-west" for nearly every image' in found.reason
    assert any("reference gets only 25%" in warning for warning in found.warnings)


def test_few_images_are_warned_of(world: planted.World) -> None:
    found = scanned(world, world.clean, images=world.images[:11], labels=world.labels[:11])
    assert any("fewer than the paper's three per class" in warning for warning in found.warnings)
