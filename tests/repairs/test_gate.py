import math
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedmend.detection import Case, Covered, Finding, Target
from fedmend.errors import ConfigError
from fedmend.repairs.gate import (
    Gate,
    HoldOutGate,
    error_of_drop,
    flaw_of,
    measure,
    overlooked,
    scan_again,
)
from fedmend.repairs.judging import judge
from fedmend.repairs.repair_report import TargetCheck
from fedmend.triggers import Addition, Patch

PAIRS = "patch, one-to-one"


@pytest.mark.parametrize(
    ("sources", "rows", "why"),
    [
        ((2,), (Covered(PAIRS, "", False, "too few images"),), "too few images"),
        ((2,), (Covered(PAIRS, "", True),), ""),
        ((2,), (Covered(PAIRS, "", True, left_out=(0, 2)),), "too few images are of class 2"),
        ((1,), (Covered(PAIRS, "", True, left_out=(0, 2)),), ""),
        ((2,), (Covered(PAIRS, "", False, "too few"), Covered("addition, one-to-one", "", True)), ""),
        ((), (Covered(PAIRS, "", False, "too few images"),), ""),
        ((2,), (), ""),  # a method without families
    ],
)
def test_what_a_new_scan_overlooks(sources: tuple[int, ...], rows: tuple[Covered, ...], why: str) -> None:
    report: Any = SimpleNamespace(findings=[SimpleNamespace(coverage=rows)])
    assert overlooked(report, [Target(1, 0.9, sources)]) == why


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_weights_and_logits_that_are_not_finite_are_flaws(wrong: float) -> None:
    images = torch.zeros(3, 1, 2, 2)
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3))
    assert flaw_of(net, images) is None
    assert net.training
    with torch.no_grad():
        net[1].running_mean[0] = wrong
    assert flaw_of(net, images) == "the repaired model returns NaN or infinite logits on clean images"
    with torch.no_grad():
        net[2].bias[0] = wrong
    assert flaw_of(net, images) == "the repaired model has weights that are NaN or infinite"
    found = measure((Fixed(0, 1, 2), net), images, torch.tensor([0, 1, 2]))
    assert found.flaw is not None
    assert math.isnan(found.accuracy_after)


class Fixed(nn.Module):
    """Predicts these classes, whatever the images; stamped images are of class 1."""

    def __init__(self, *classes: int, moved: bool = False) -> None:
        super().__init__()
        self.classes, self.moved = torch.tensor(classes), moved

    def forward(self, images: Tensor) -> Tensor:
        stamped = images.flatten(1)[:, 0] == 1
        predictions = self.classes[: len(images)]
        return nn.functional.one_hot(predictions.where(~(stamped & self.moved), 1), 3).float()


def test_the_error_of_a_drop_counts_the_images_on_which_the_models_differ() -> None:
    """Of 4 images the first model gets all right and the second 2: differences 0, 0, 1, 1, sd 0.5, error 0.25."""
    models = Fixed(0, 1, 0, 1), Fixed(0, 1, 1, 0)
    images, labels = torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])
    assert error_of_drop(models, images, labels) == pytest.approx(0.25)


def test_the_evidence_by_hand() -> None:
    mask = torch.zeros(1, 2, 2)
    mask[0, 0, 0] = 1
    corner = Patch(mask, mask.clone())
    targets = (
        Target(1, 1.0, trigger=corner),
        Target(1, 1.0, sources=(2,), trigger=corner),
        Target(0, 1.0),
        Target(2, 1.0, sources=(5,), trigger=corner),
    )
    images, labels = torch.zeros(4, 1, 2, 2), torch.tensor([0, 0, 2, 2])
    models = Fixed(0, 0, 2, 2, moved=True), Fixed(0, 0, 2, 0)
    found = measure(models, images, labels, targets, Fixed(1, 1, 2, 0))
    assert found.accuracy_reference == 0.25
    assert measure(models, images, labels).accuracy_reference is None
    assert (found.accuracy_before, found.accuracy_after, found.num_heldout) == (1.0, 0.75, 4)
    assert found.num_judged == 4
    assert found.accuracy_error == pytest.approx((3 / 16) ** 0.5 / 2)
    assert found.target_checks == (
        TargetCheck(1, (), 1.0, 0.0, 1, 0.5),
        TargetCheck(1, (2,), 1.0, 0.0, 1, 1.0),
    )
    (alone, _) = measure(models, images, labels, targets).target_checks
    assert alone == TargetCheck(1, (), 1.0, 0.0)


def test_of_the_triggers_for_a_target_the_one_that_still_works_counts_wherever_it_is() -> None:
    """As a trigger, as a variant, or in a later finding; the same one twice is tried once."""

    def corner(value: float) -> Patch:
        return Patch(torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), torch.full((1, 2, 2), value))

    images, labels = torch.zeros(4, 1, 2, 2), torch.tensor([0, 0, 2, 2])
    models = Fixed(0, 0, 2, 2, moved=True), Fixed(0, 0, 2, 2, moved=True)
    for targets in (
        (Target(1, 1.0, trigger=corner(1.0), variants=(corner(0.5), corner(1.0))),),
        (Target(1, 1.0, trigger=corner(0.5), variants=(corner(1.0), corner(0.5))),),
        (Target(1, 1.0, trigger=corner(0.5)), Target(1, 1.0, trigger=corner(1.0))),
    ):
        found = measure(models, images, labels, targets)
        assert found.target_checks == (TargetCheck(1, (), 1.0, 1.0, triggers=2),)
        assert judge(Gate(), found, "Done")[0] == "failed"


def test_additions_and_patches_for_one_target_are_tried_side_by_side() -> None:
    images, labels = torch.zeros(4, 1, 2, 2), torch.tensor([0, 0, 2, 2])
    models = Fixed(0, 0, 2, 2, moved=True), Fixed(0, 0, 2, 2, moved=True)
    nothing = Patch(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))
    bright, same = Addition(torch.ones(1, 2, 2)), Addition(torch.ones(1, 2, 2))
    target = Target(1, 1.0, sources=(0,), trigger=nothing, variants=(bright, same))
    found = measure(models, images, labels, (target,))
    assert found.target_checks == (TargetCheck(1, (0,), 1.0, 1.0, triggers=2),)


class Brightness(nn.Module):
    """Takes dark images for class 0, grey ones for 1 and bright ones for 2."""

    def forward(self, images: Tensor) -> Tensor:
        return -(images[:, 0, 0, :1] - torch.tensor([0.0, 0.5, 1.0])).abs()


def test_a_new_scan_sees_as_many_images_of_each_class_as_possible() -> None:
    seen: list[Tensor] = []

    class Sees:
        needs = frozenset[Any]()

        def __call__(self, case: Case, *_: Any) -> Finding:
            assert case.labels is not None
            seen.append(case.labels)
            return Finding("sees", "clean", "Because.", 0.0, 0.5)

    labels = torch.tensor([0] * 90 + [1] * 6 + [2] * 4)
    images = (labels / 2)[:, None, None, None].expand(-1, 1, 2, 2)
    case = Case(Brightness(), images=images, labels=labels)
    scan_again(Gate(detector=Sees()), case, 20, (0, 0))
    scan_again(Gate(detector=Sees()), case, 1000, (0, 0))
    assert seen[0].bincount().tolist() == [10, 6, 4]
    assert len(seen[1]) == 100


@pytest.mark.parametrize(
    "wrong",
    [
        *({"held_out_fraction": 0.0}, {"held_out_fraction": 1.0}, {"max_accuracy_drop": -0.01}),
        *({"max_accuracy_drop": float("nan")}, {"max_accuracy_drop": 1.01}, {"max_passes": 0}),
        *({"max_trigger_success": 2.0}, {"max_pass": 1}),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="HoldOutGate: "):
        HoldOutGate(**wrong)


def test_a_gate_of_a_vote_has_no_settings_without_effect() -> None:
    assert [each.name for each in fields(Gate)] == ["max_accuracy_drop", "max_trigger_success", "detector"]
