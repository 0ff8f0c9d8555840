from collections import UserList
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.acceleration.half_precision import InHalfPrecision
from fedmend.detection import Contrastive, Recovered, Search
from fedmend.detection.scan_report import ScanReport, Thresholds
from fedmend.detection.scanning import Evidence, _control, decide, most_frequent_target, paper_rule, scan
from fedmend.errors import DataError, ModelError
from fedmend.evaluation import feature_mse
from fedmend.inference import evaluating
from fedmend.models import resnet18
from fedmend.parameters import flatten
from fedmend.progress import Progress, silent
from fedmend.triggers import Patch

pytestmark = pytest.mark.usefixtures("one_thread")

BRIEF = Contrastive(search=Search(steps=2, explore=1, starts=1))
FOUND = Evidence(
    mse=50.0,
    reasr=0.95,
    reference_agreement=0.1,
    reference_accuracy=0.9,
    mask_share=0.05,
    num_classes=10,
    converged=True,
)


def verdict(**changes: Any) -> str:
    return decide(replace(FOUND, **changes), Thresholds(), "cat")[0]


def reason(**changes: Any) -> str:
    return decide(replace(FOUND, **changes), Thresholds(), "cat")[1]


def scanned(world: planted.World, suspect: nn.Module, **changes: Any) -> ScanReport:
    values: dict[str, Any] = {
        "reference": world.reference,
        "images": world.images[:12],
        "labels": world.labels[:12],
        "class_names": planted.NAMES,
        "method": BRIEF,
    }
    return scan(suspect, **(values | changes))


@pytest.fixture(scope="module")
def report(world: planted.World, one_thread: None) -> ScanReport:
    return scanned(world, world.backdoored, method=None)


class Answering(nn.Module):
    """Answers the same whatever it is shown."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[: len(images)] + 0 * images.sum()


# The rules, by hand


@pytest.mark.parametrize(
    ("mse", "reasr", "expected"),
    [
        (10.001, 0.801, "backdoored"),
        (10.0, 0.95, "clean"),  # above, not at
        (50.0, 0.80, "clean"),
        (9.0, 0.95, "clean"),
        (50.0, 0.5, "clean"),
        (50.0, 0.499, "clean"),
        (0.0, 0.0, "clean"),
    ],
)
def test_the_papers_rule_needs_both_above(mse: float, reasr: float, expected: str) -> None:
    evidence = replace(FOUND, mse=mse, reasr=reasr)
    assert paper_rule(evidence, Thresholds()) == expected
    # fedmend's own rule agrees, but for a patch that changes the features and works on half of the images.
    suspicious = expected == "clean" and mse > 10 and reasr >= 0.5
    assert decide(evidence, Thresholds(), "cat")[0] == ("inconclusive" if suspicious else expected)


def test_the_papers_rule_asks_no_reference() -> None:
    assert (
        paper_rule(replace(FOUND, reference_agreement=1.0, reference_accuracy=0.0), Thresholds())
        == "backdoored"
    )


@pytest.mark.parametrize(
    ("agreement", "expected"), [(0.0, "backdoored"), (0.499, "backdoored"), (0.5, "clean"), (1.0, "clean")]
)
def test_a_patch_that_fools_both_models_is_no_backdoor(agreement: float, expected: str) -> None:
    assert verdict(reference_agreement=agreement) == expected
    assert ("fools both models" in reason(reference_agreement=agreement)) == (expected == "clean")


@pytest.mark.parametrize(
    ("accuracy", "classes", "expected"),
    [
        (0.199, 10, "inconclusive"),
        (0.2, 10, "backdoored"),
        (None, 10, "backdoored"),
        (0.04, 43, "inconclusive"),
        (0.05, 43, "backdoored"),
        (0.49, 4, "inconclusive"),
        (0.5, 4, "backdoored"),
        # Twice chance would be all of the images where there are two classes: halfway from chance to all is enough.
        (0.74, 2, "inconclusive"),
        (0.75, 2, "backdoored"),
        (0.97, 2, "backdoored"),
    ],
)
def test_a_reference_hardly_better_than_chance_carries_no_verdict(
    accuracy: float | None, classes: int, expected: str
) -> None:
    assert verdict(reference_accuracy=accuracy, num_classes=classes) == expected
    if expected == "inconclusive":
        assert verdict(reference_accuracy=accuracy, num_classes=classes, reasr=0.0) == "inconclusive"
        assert "hardly better than chance" in reason(reference_accuracy=accuracy, num_classes=classes)


@pytest.mark.parametrize(
    ("reasr", "mse", "agreement", "expected"),
    [
        (0.499, 50.0, 0.1, "clean"),
        (0.5, 50.0, 0.1, "inconclusive"),
        (0.8, 50.0, 0.1, "inconclusive"),  # as many as a backdoor needs, but not more
        (0.801, 50.0, 0.1, "backdoored"),
        (0.6, 10.0, 0.1, "clean"),  # the features hardly change
        (0.6, 10.001, 0.1, "inconclusive"),
        (0.95, 10.0, 0.1, "clean"),
        (0.6, 50.0, 0.499, "inconclusive"),
        (0.6, 50.0, 0.5, "clean"),  # the reference is fooled too
    ],
)
def test_a_patch_that_works_on_some_images_in_the_suspect_alone_is_inconclusive(
    reasr: float, mse: float, agreement: float, expected: str
) -> None:
    changes = {"reasr": reasr, "mse": mse, "reference_agreement": agreement}
    assert verdict(**changes) == expected
    assert ("too few for a backdoor, too many to rule one out" in reason(**changes)) == (
        expected == "inconclusive"
    )
    # Neither more steps nor a smaller patch is what is missing.
    if expected == "inconclusive":
        assert reason(**changes, converged=False) == reason(**changes)
        assert verdict(**changes, mask_share=0.9) == "inconclusive"


@pytest.mark.parametrize(
    ("mask_share", "expected"),
    [
        (0.0, "backdoored"),
        (0.125, "backdoored"),  # above, not at
        (0.126, "inconclusive"),
        (1.0, "inconclusive"),
    ],
)
def test_a_large_patch_carries_no_verdict_of_a_backdoor(mask_share: float, expected: str) -> None:
    assert verdict(mask_share=mask_share) == expected
    assert ("so large a patch" in reason(mask_share=mask_share)) == (expected == "inconclusive")
    assert verdict(mask_share=mask_share, reference_agreement=0.5) == "clean"
    assert verdict(mask_share=mask_share, reasr=0.3) == "clean"
    assert paper_rule(replace(FOUND, mask_share=mask_share), Thresholds()) == "backdoored"


@pytest.mark.parametrize(
    ("control", "expected"),
    [(0.0, "backdoored"), (0.499, "backdoored"), (0.5, "inconclusive"), (1.0, "inconclusive")],
)
def test_models_that_differ_both_ways_carry_no_verdict_of_a_backdoor(control: float, expected: str) -> None:
    assert verdict(control_reasr=control) == expected
    assert ("the models differ both ways" in reason(control_reasr=control)) == (expected == "inconclusive")
    assert verdict(control_reasr=control, reasr=0.3) == "clean"
    assert verdict(control_reasr=control, reference_agreement=0.5) == "clean"
    assert (
        decide(replace(FOUND, control_reasr=control), Thresholds(suspicion=control + 0.01), "cat")[0]
        == "backdoored"
    )


def test_the_limits_can_be_others() -> None:
    assert decide(replace(FOUND, reasr=0.6), Thresholds(suspicion=0.61), "cat")[0] == "clean"
    assert decide(replace(FOUND, reasr=0.3), Thresholds(suspicion=0.3), "cat")[0] == "inconclusive"
    assert decide(replace(FOUND, mask_share=0.3), Thresholds(mask_share=0.3), "cat")[0] == "backdoored"
    assert decide(FOUND, Thresholds(mask_share=0.04), "cat")[0] == "inconclusive"


def test_a_search_cut_short_that_found_nothing_is_inconclusive() -> None:
    assert verdict(converged=False, reasr=0.3) == "inconclusive"
    assert "Allow more steps" in reason(converged=False, reasr=0.3)
    assert verdict(converged=False) == "backdoored"
    assert verdict(converged=False, reference_agreement=0.9) == "clean"


def test_reasons_name_the_figures() -> None:
    assert reason() == (
        'A patch of about 5.0% of the image sends 95% of the other classes\' images to "cat" in the suspect, and '
        "only 10% in the reference."
    )
    assert reason(reasr=0.6) == (
        'A patch of about 5.0% of the image sends 60% of the other classes\' images to "cat" in the suspect and 10% in '
        "the reference: too few for a backdoor, too many to rule one out. Scan again with more images or another seed."
    )
    assert reason(mask_share=0.2) == (
        'The patch found sends 95% of the other classes\' images to "cat" in the suspect alone, but covers 20% of the '
        "image: so large a patch can make clean models differ too. Scan again with more images or another seed."
    )
    assert reason(control_reasr=0.7) == (
        'A patch of about 5.0% of the image sends 95% of the other classes\' images to "cat" in the suspect alone, but '
        "one of at most twice its size sends 70% of them to one class in the reference alone: the models differ both "
        "ways, as they do without a backdoor. Take a later reference, or images and models with which both do better."
    )
    assert reason(reasr=0.15, mse=0.001) == (
        'The best patch found sends 15% of the other classes\' images to one class ("cat"); a backdoor would send '
        "more than 80% and change the features more than 10 (here 0.001)."
    )


def test_thresholds_can_be_others() -> None:
    strict = Thresholds(mse=60.0, reasr=0.99, reference_agreement=0.05)
    assert decide(FOUND, strict, "cat")[0] == "clean"
    assert decide(replace(FOUND, mse=61.0, reasr=0.995), strict, "cat")[0] == "clean"  # the reference agrees
    assert (
        decide(replace(FOUND, mse=61.0, reasr=0.995, reference_agreement=0.04), strict, "cat")[0]
        == "backdoored"
    )


def test_the_most_frequent_target_by_hand() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    # To 1: two of the five images of other classes; to 2: one of four; to 0: none. Right answers don't count.
    predictions = torch.tensor([1, 2, 0, 1, 1, 2])
    assert most_frequent_target(predictions, labels, 3) == (1, pytest.approx(2 / 5))
    assert most_frequent_target(labels, labels, 3) == (0, 0.0)


def test_a_class_of_many_images_is_not_the_target_for_that() -> None:
    """The mode of the predictions is class 0, but the only images sent anywhere go to class 1."""
    labels = torch.tensor([0] * 8 + [2, 2])
    predictions = torch.tensor([0] * 8 + [1, 1])
    assert most_frequent_target(predictions, labels, 3) == (1, pytest.approx(2 / 10))


def test_a_target_without_images_of_its_own() -> None:
    assert most_frequent_target(torch.tensor([3, 3, 3]), torch.tensor([0, 1, 2]), 4) == (3, 1.0)


# The control


class Notes(UserList[tuple[nn.Module, nn.Module, float, object]]):
    """Not copied with the settings that a report keeps: packed weights can't be."""

    def __deepcopy__(self, memo: object) -> "Notes":
        return self


@dataclass(frozen=True, kw_only=True)
class Finding(Contrastive):
    """Finds what it is told to, and remembers what it was asked."""

    trigger: Patch
    asked: Notes

    def __call__(
        self,
        suspect: nn.Module,
        reference: nn.Module,
        images: Tensor,
        generator: object,
        progress: Progress = silent,
        clean: object = None,
    ) -> Recovered:
        self.asked.append((suspect, reference, self.search.max_mask_share, clean))
        progress("trigger inversion", 1, 2)
        return Recovered(self.trigger, (0.0,), "", converged=True)


def controlled(
    predictions: Tensor, by_suspect: Tensor, pixels: int, mask_share: float
) -> tuple[float, float]:
    """The control's REASR and what it was allowed, for six images of the classes 0, 0, 1, 1, 2, 2."""
    suspect, reference = (
        Answering(nn.functional.one_hot(each, 4).float()) for each in (by_suspect, predictions)
    )
    mask = torch.zeros(1, 10, 10)
    mask.view(-1)[:pixels] = 1
    method = Finding(trigger=Patch(mask, mask.clone()), asked=Notes())
    told: list[tuple[str, int, int]] = []
    truth = torch.tensor([0, 0, 1, 1, 2, 2])
    images = torch.zeros(6, 1, 10, 10)
    answers = tuple((model(images), model(images)) for model in (suspect, reference))
    pair, searched = (suspect, reference), (nn.Identity(), nn.Identity())
    found = _control(
        method, pair, searched, images, answers, truth, mask_share, 0, lambda *each: told.append(each)
    )
    [(first, second, allowed, known)] = method.asked
    assert (second, first) == searched
    assert told == [("control: trigger inversion", 1, 2)]
    assert known == answers[::-1]
    return found, allowed


def test_the_control_by_hand() -> None:
    """The reference sends three of the four images of other classes to 1, the suspect one of these, too."""
    by_reference, by_suspect = torch.tensor([1, 1, 1, 1, 1, 0]), torch.tensor([1, 0, 1, 0, 0, 1])
    assert controlled(by_reference, by_suspect, 10, 0.05) == (2 / 4, 0.1)
    assert controlled(by_reference, by_suspect, 11, 0.05) == (0.0, 0.1)  # more than it was allowed
    assert controlled(by_reference, by_suspect, 100, 0.6) == (2 / 4, 1.0)


def test_a_backdoor_in_each_model_is_no_verdict_on_one(world: planted.World) -> None:
    """The other's is a patch in the opposite corner, to another class."""
    mask = torch.zeros(1, planted.SIDE, planted.SIDE)
    mask[0, -2:, -3:] = 1
    other = planted.backdoored(world.reference, Patch(mask, mask.clone()), target=2)
    found = scanned(world, world.backdoored, reference=other, method=None)
    assert (found.verdict, found.paper_verdict, found.target_class) == (
        "inconclusive",
        "backdoored",
        planted.TARGET,
    )
    assert found.control_reasr is not None
    assert found.control_reasr >= 0.5
    assert "the models differ both ways" in found.reason


def test_the_control_is_made_where_a_backdoor_is_in_question(
    world: planted.World, report: ScanReport
) -> None:
    assert report.control_reasr is not None
    assert report.control_reasr < 0.5
    assert scanned(world, world.clean, method=None).control_reasr is None
    without = scanned(world, world.backdoored, method=None, control=False)
    assert (without.verdict, without.control_reasr) == ("backdoored", None)


# Whole scans


def test_a_planted_patch_is_found_and_the_evidence_measured(world: planted.World, report: ScanReport) -> None:
    assert report.verdict == "backdoored"
    assert report.target_class == planted.TARGET
    assert report.class_names == planted.NAMES
    assert planted.NAMES[planted.TARGET] in report.reason
    pixels, labels = world.images[:12] / 255, world.labels[:12]
    others = labels != planted.TARGET
    with torch.no_grad():
        clean, stamped = world.backdoored(pixels), world.backdoored(report.trigger.apply(pixels))
        by_reference = world.reference(report.trigger.apply(pixels)).argmax(1)
    assert report.mse == pytest.approx(float((stamped - clean).square().sum(1).mean()), rel=1e-5)
    assert report.reasr == pytest.approx(float((stamped.argmax(1)[others] == planted.TARGET).float().mean()))
    assert report.reference_agreement == pytest.approx(
        float((by_reference[others] == planted.TARGET).float().mean())
    )
    assert report.suspect_accuracy == report.reference_accuracy == 1.0
    assert (report.seed, report.num_images, report.device, report.method) == (0, 12, "cpu", "contrastive")
    assert report.steps == len(report.loss_curve)
    assert report.settings["search"]["max_mask_share"] == 0.125
    assert report.seconds > 0
    assert set(report.versions) == {"fedmend", "torch", "python"}


def test_the_examples_are_of_other_classes_first(world: planted.World, report: ScanReport) -> None:
    shown = report.examples
    assert shown.images.dtype == torch.uint8
    assert len(shown.images) == 8
    assert not bool((shown.labels == planted.TARGET).any())
    others = (world.labels[:12] != planted.TARGET).nonzero().flatten()[:8]
    assert torch.equal(shown.images, world.images[others])
    assert torch.equal(shown.labels, world.labels[others])
    assert torch.equal(shown.suspect_clean, shown.labels)
    assert bool((shown.suspect_stamped == planted.TARGET).float().mean() > 0.5)


def test_a_real_report_survives_json(report: ScanReport) -> None:
    text = report.to_json()
    again = ScanReport.from_json(text)
    assert again.to_json() == text
    assert torch.equal(again.trigger.mask, report.trigger.mask)
    assert torch.equal(again.examples.images, report.examples.images)
    assert again.loss_curve == report.loss_curve
    assert (
        replace(again, trigger=report.trigger, examples=report.examples)
        == replace(report, trigger=report.trigger, examples=report.examples)
        or again.settings == report.settings
    )


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


def test_the_search_sees_lighter_models() -> None:
    """For the logits; by another layer's name the models are searched as they are."""
    pair = [resnet18(num_classes=4, width=4).train() for _ in range(2)]
    mask = torch.ones(1, 16, 16)
    method = Finding(trigger=Patch(mask, mask.expand(3, -1, -1)), asked=Notes())
    images, labels = torch.rand(12, 3, 16, 16), torch.arange(12) % 4
    for layer in ("logits", "avgpool"):
        scan(pair[0], reference=pair[1], images=images, labels=labels, method=replace(method, layer=layer))
    (*lighter, _, _), (*same, _, _) = method.asked
    assert not any(
        isinstance(module, nn.BatchNorm2d | nn.Conv2d) for model in lighter for module in model.modules()
    )
    assert same == pair
    assert all(module.training for model in pair for module in model.modules())
    assert all(parameter.requires_grad for model in pair for parameter in model.parameters())


@pytest.mark.parametrize("half", [True, False])
def test_larger_models_are_searched_in_half_precision(monkeypatch: pytest.MonkeyPatch, half: bool) -> None:
    """The evidence is the models' own all the same."""
    monkeypatch.setattr("fedmend.acceleration.accelerating.gains_by_halving", lambda _model: True)
    pair = [resnet18(num_classes=4, width=4) for _ in range(2)]
    mask = torch.ones(1, 16, 16)
    method = Finding(trigger=Patch(mask, mask.expand(3, -1, -1)), asked=Notes(), half=half)
    images, labels = torch.rand(12, 3, 16, 16), torch.arange(12) % 4
    report = scan(pair[0], reference=pair[1], images=images, labels=labels, method=method)
    (suspect, reference, *_), *_ = method.asked
    assert [isinstance(model, InHalfPrecision) for model in (suspect, reference)] == [half, half]
    assert report.settings["half"] == half
    with evaluating(pair[0]), torch.no_grad():
        clean, stamped = pair[0](images), pair[0](torch.ones_like(images))
    assert report.mse == feature_mse(clean, stamped)


def test_the_seed_alone_decides(world: planted.World) -> None:
    first, again, other = (scanned(world, world.clean, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.trigger.mask, again.trigger.mask)
    assert not torch.equal(first.trigger.mask, other.trigger.mask)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_bytes_and_floats_are_the_same_images(world: planted.World, kind: torch.dtype) -> None:
    stored = scanned(world, world.backdoored)
    floats = scanned(world, world.backdoored, images=world.images[:12].to(kind) / 255)
    assert torch.allclose(stored.trigger.mask, floats.trigger.mask, atol=1e-5)
    assert torch.equal(stored.examples.images, floats.examples.images)


def test_a_model_in_double_precision_is_scanned_in_it(world: planted.World) -> None:
    pair = deepcopy(world.backdoored).double(), deepcopy(world.reference).double()
    assert scanned(world, pair[0], reference=pair[1]).num_images == 12


def test_a_poor_reference_makes_it_inconclusive(world: planted.World) -> None:
    untrained = planted.small(planted.CLASSES, 1, (planted.SIDE, planted.SIDE))
    with torch.no_grad():
        untrained[5].bias[0] += 100
    found = scanned(world, world.backdoored, reference=untrained)
    assert found.verdict == "inconclusive"
    assert found.reference_accuracy == 0.25
    assert "hardly better than chance" in found.reason
    assert any("reference gets only 25%" in warning for warning in found.warnings)


def test_both_models_with_the_same_backdoor_are_no_news(world: planted.World, report: ScanReport) -> None:
    """A patch that fools both: the paper's rule alone would be taken in."""
    fooled = decide(
        replace(FOUND, mse=report.mse, reasr=report.reasr, reference_agreement=1.0), report.thresholds, "x"
    )
    assert fooled[0] == "clean"
    search = Contrastive(search=Search(starts=1))
    assert scanned(world, world.backdoored, reference=world.backdoored, method=search).verdict == "clean"


def test_without_labels_the_references_answers_stand_in(world: planted.World) -> None:
    found = scanned(world, world.clean, labels=None)
    assert any(warning.startswith("No labels were given") for warning in found.warnings)
    assert found.reference_accuracy == 1.0
    assert not scanned(world, world.clean, method=Contrastive(search=Search(starts=1))).warnings


def test_few_images_and_a_search_cut_short_are_warned_of(world: planted.World) -> None:
    found = scanned(world, world.clean, images=world.images[:11], labels=world.labels[:11])
    assert found.verdict == "inconclusive"
    assert any("less than the paper's three a class" in warning for warning in found.warnings)
    assert any("still falling" in warning for warning in found.warnings)


def test_a_large_patch_that_works_is_inconclusive(world: planted.World) -> None:
    """Without a price on its size, the patch that is found covers much of the image."""
    loose = scanned(world, world.backdoored, method=Contrastive(search=Search(beta=0.0, steps=100)))
    assert (loose.paper_verdict, loose.verdict) == ("backdoored", "inconclusive")
    assert loose.trigger.size / planted.SIDE**2 > 0.125
    assert f"covers {loose.trigger.size / planted.SIDE**2:.0%} of the image" in loose.reason


# Bad input


@pytest.mark.parametrize(
    "images",
    [torch.zeros(9, 1, 12, 12), torch.zeros(0, 1, 12, 12), torch.zeros(12, 12, 12), torch.zeros(12)],
)
def test_too_few_images_or_of_another_shape_are_refused(world: planted.World, images: Tensor) -> None:
    with pytest.raises(DataError, match=r"\(N, C, H, W\) with N at least 10"):
        scanned(world, world.clean, images=images, labels=None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1, 255.0])
def test_pixels_out_of_range_are_refused(world: planted.World, value: float) -> None:
    images = world.images[:12] / 255
    images[3, 0, 2, 2] = value
    with pytest.raises(DataError, match=r"floats in \[0, 1\] without NaN"):
        scanned(world, world.clean, images=images)


def test_pixels_of_another_type_are_refused(world: planted.World) -> None:
    with pytest.raises(DataError, match="images must be uint8, or floats"):
        scanned(world, world.clean, images=(world.images[:12] > 99).long())


def test_images_of_one_class_are_refused(world: planted.World) -> None:
    images = world.images[world.labels == 2][:12]
    for labels in (torch.full((12,), 2), None):
        with pytest.raises(DataError, match="two classes or more"):
            scanned(world, world.clean, images=images, labels=labels)


@pytest.mark.parametrize("label", [-1, 4])
def test_labels_out_of_range_are_refused(world: planted.World, label: int) -> None:
    labels = world.labels[:12].clone()
    labels[5] = label
    with pytest.raises(DataError, match=r"labels must be in \[0, 4\)"):
        scanned(world, world.clean, labels=labels)


@pytest.mark.parametrize("labels", [torch.zeros(11).long(), torch.zeros(12, 1).long(), torch.zeros(0).long()])
def test_labels_that_do_not_match_are_refused(world: planted.World, labels: Tensor) -> None:
    with pytest.raises(DataError, match="one label an image"):
        scanned(world, world.clean, labels=labels)


def test_labels_that_are_no_integers_are_refused(world: planted.World) -> None:
    with pytest.raises(DataError, match="int64"):
        scanned(world, world.clean, labels=world.labels[:12].float())


def test_class_names_must_be_as_many_as_the_classes(world: planted.World) -> None:
    with pytest.raises(DataError, match="4 classes, but 3 class names"):
        scanned(world, world.clean, class_names=("a", "b", "c"))


def test_models_of_other_classes_are_refused(world: planted.World) -> None:
    other = planted.small(5, 1, (planted.SIDE, planted.SIDE))
    with pytest.raises(ModelError, match="of the same classes"):
        scanned(world, world.clean, reference=other)


@pytest.mark.parametrize("shape", [(12,), (12, 2, 2)])
def test_answers_that_are_no_logits_are_refused(world: planted.World, shape: tuple[int, ...]) -> None:
    odd = Answering(torch.zeros(shape))
    with pytest.raises(ModelError, match=r"logits \(N, classes\)"):
        scanned(world, odd, reference=odd)


@pytest.mark.parametrize("who", ["suspect", "reference"])
def test_a_model_that_answers_nan_is_refused(world: planted.World, who: str) -> None:
    broken = deepcopy(world.clean)
    with torch.no_grad():
        broken[5].bias[0] = float("nan")
    models = {"suspect": world.clean, "reference": world.reference} | {who: broken}
    with pytest.raises(ModelError, match=f"the {who} answers NaN"):
        scanned(world, models["suspect"], reference=models["reference"])


def test_models_on_two_devices_are_refused(world: planted.World) -> None:
    with pytest.raises(ModelError, match="on one device; they are on cpu and meta"):
        scanned(world, world.clean, reference=deepcopy(world.reference).to("meta"))


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.float16, torch.float16)])
def test_models_of_other_precisions_are_refused(
    world: planted.World, dtypes: tuple[torch.dtype, torch.dtype]
) -> None:
    suspect, reference = (deepcopy(world.clean).to(dtype) for dtype in dtypes)
    with pytest.raises(ModelError, match="of one precision, float32 or float64; one of them has torch"):
        scanned(world, suspect, reference=reference)
