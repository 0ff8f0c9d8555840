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
    Evidence,
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

DONE = "Something was done"


def evidence(**changes: Any) -> Evidence:
    values = {
        "accuracy_before": 1.0,
        "accuracy_after": 1.0,
        "num_judged": 100,
        "num_heldout": 100,
        "verdict_after": "clean",
    }
    return Evidence(**(values | changes))


def check(after: float, before: float = 0.9, sources: tuple[int, ...] = ()) -> TargetCheck:
    return TargetCheck(1, sources, before, after)


def test_what_holds_is_released() -> None:
    outcome, reason = judge(Gate(), evidence(target_checks=(check(0.1),)), DONE)
    assert outcome == "repaired"
    assert reason == (
        "Something was done; clean accuracy on held-out images went from 100.0% to 100.0%. The best trigger found sent "
        "90% of the held-out images of other classes to class 1 before and sends 10% now. A new scan finds no backdoor."
    )


def test_classes_are_named_where_the_names_are_known() -> None:
    for after, begins in ((0.1, "The best trigger found sent 90%"), (0.6, "it sends 60%")):
        checks = (check(after, sources=(0, 2)),)
        _, reason = judge(Gate(), evidence(target_checks=checks), DONE, ("cat", "dog", "owl"))
        assert f'{begins} of the held-out images of "cat", "owl" to "dog"' in reason


@pytest.mark.parametrize(("after", "said"), [(0.95, True), (0.9, True), (0.96, False)])
def test_a_reference_that_is_as_accurate_is_named(after: float, said: bool) -> None:
    _, reason = judge(
        Gate(), evidence(accuracy_before=0.9, accuracy_after=after, accuracy_reference=0.95), DONE
    )
    assert ("The reference is as accurate (95.0%), so going back to it loses nothing." in reason) is said


@pytest.mark.parametrize(
    ("after", "error", "outcome"),
    [(0.99, 0.0, "repaired"), (0.98, 0.0, "failed"), (0.98, 0.01, "repaired"), (0.97, 0.01, "failed")],
)
def test_the_limit_itself_and_a_standard_error_are_allowed(after: float, error: float, outcome: str) -> None:
    """1.0 - 0.99 is more than 0.01 in floating point."""
    found, reason = judge(Gate(), evidence(accuracy_after=after, accuracy_error=error), DONE)
    assert found == outcome
    assert ("allowed is 1.0%" in reason) == (outcome == "failed")


PAIRS = "patch, one-to-one"


@pytest.mark.parametrize(
    ("sources", "rows", "why"),
    [
        ((2,), (Covered(PAIRS, "", False, "too few images"),), "too few images"),
        ((2,), (Covered(PAIRS, "", True),), ""),
        ((), (Covered(PAIRS, "", False, "too few images"),), ""),
        ((2,), (), ""),  # a method without families
    ],
)
def test_what_a_new_scan_overlooks(sources: tuple[int, ...], rows: tuple[Covered, ...], why: str) -> None:
    report: Any = SimpleNamespace(findings=[SimpleNamespace(coverage=rows)])
    assert overlooked(report, [Target(1, 0.9, sources)]) == why


def test_a_scan_that_overlooks_what_was_found_verifies_nothing() -> None:
    outcome, reason = judge(Gate(), evidence(overlooked="too few images"), DONE)
    assert outcome == "unverified"
    assert "as was found before: too few images. Use more images" in reason


@pytest.mark.parametrize("verdict", ["backdoored", "inconclusive"])
def test_what_a_new_scan_does_not_find_clean_is_not_released(verdict: Any) -> None:
    outcome, reason = judge(Gate(), evidence(verdict_after=verdict), DONE)
    assert outcome == "failed"
    assert f"the new scan's verdict is {verdict}" in reason


def test_without_a_new_scan_nothing_is_called_repaired() -> None:
    outcome, reason = judge(Gate(), evidence(verdict_after=None), DONE)
    assert outcome == "unverified"
    assert "No new scan was made, so nothing verified that the backdoor is gone" in reason


@pytest.mark.parametrize(("after", "outcome"), [(0.49, "repaired"), (0.5, "failed")])
def test_one_trigger_that_still_works_is_enough_to_fail(after: float, outcome: str) -> None:
    checks = (check(0.0), check(after, 0.8, (3,)), check(0.2))
    found, reason = judge(Gate(), evidence(target_checks=checks), DONE)
    assert found == outcome
    still = f"it sends {after:.0%} of the held-out images of class 3 to class 1, 80% before"
    assert (still in reason) == (outcome == "failed")


def test_what_clients_report_is_called_so() -> None:
    _, reason = judge(Gate(), evidence(num_judged=0, num_heldout=0, accuracy_after=0.5), DONE)
    assert "clean accuracy as the clients report it went from 100.0% to 50.0%" in reason


@pytest.mark.parametrize(
    ("held_out", "said"),
    [(0, "on the images that also chose the model"), (60, "on 100 images, 60 of them held out,")],
)
def test_images_that_chose_the_model_are_not_called_held_out(held_out: int, said: str) -> None:
    for after, success in ((1.0, 0.1), (0.5, 0.1), (1.0, 0.9)):
        found = evidence(num_heldout=held_out, accuracy_after=after, target_checks=(check(success),))
        _, reason = judge(Gate(), found, DONE)
        assert f"clean accuracy {said} went from" in reason
        assert "held-out" not in reason


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize(
    "name", ["accuracy_before", "accuracy_after", "accuracy_error", "after", "before", "reference"]
)
def test_a_figure_that_is_not_finite_fails(name: str, wrong: float) -> None:
    changes: dict[str, Any] = {name: wrong}
    if name == "reference":
        changes = {"target_checks": (TargetCheck(1, (), 0.9, 0.1, 1, wrong), check(0.0))}
    if name in ("after", "before"):
        changes = {"target_checks": (check(**({"after": 0.1} | {name: wrong})), check(0.0))}
    outcome, reason = judge(Gate(), evidence(**changes), DONE)
    assert outcome == "failed"
    assert "NaN or infinite" in reason


def test_a_flaw_fails() -> None:
    outcome, reason = judge(Gate(), evidence(flaw="it is upside down"), DONE)
    assert (outcome, reason) == (
        "failed",
        "Something was done, but it is upside down. Go back to an earlier round's model.",
    )


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
        assert judge(Gate(), found, DONE)[0] == "failed"


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
