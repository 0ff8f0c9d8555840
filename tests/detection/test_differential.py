from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import planted
import quarters
from fedmend.detection import DETECTORS, Case, DifferenceLimits, Differential, Finding, measured
from fedmend.detection.search import aimed_search
from fedmend.errors import ConfigError
from fedmend.seeds import generator
from fedmend.triggers import Addition, Patch


def found(
    suspect: nn.Module,
    world: planted.World,
    method: Differential = planted.QUICK,
    *,
    reference: nn.Module | None = None,
    count: int = 40,
    seed: int = 0,
) -> Finding:
    images, labels = world.images[:count], world.labels[:count]
    return method(Case(suspect, reference or world.reference, images, labels), generator(seed, "scan"))


class Changed(nn.Module):
    """A model with something done to its outputs, or to its images."""

    def __init__(
        self,
        model: nn.Module,
        outputs: Callable[[Tensor], Tensor] = lambda logits: logits,
        images: Callable[[Tensor], Tensor] = lambda pixels: pixels,
    ) -> None:
        super().__init__()
        self.model, self.outputs, self.images = model, outputs, images

    def forward(self, images: Tensor) -> Tensor:
        return self.outputs(self.model(self.images(images)))


def test_a_backdoor_and_its_target(world: planted.World) -> None:
    finding = found(world.backdoored, world, Differential(effort="quick"))
    assert (finding.detector, finding.verdict, finding.limit) == ("differential", "backdoored", 1.0)
    (target,) = finding.targets
    assert (target.target, target.sources, target.trigger is not None) == (planted.TARGET, (), True)
    assert target.success > 0.8
    assert len(target.variants) == 6  # one for each size
    assert finding.measures[0].value > 1.5
    assert finding.suspicious == pytest.approx(finding.measures[0].value / 0.8)
    assert finding.settings["effort"] == "quick"


@pytest.fixture(scope="module")
def black(world: planted.World) -> nn.Module:
    """A model whose trigger is a black patch."""
    mask = torch.zeros(1, planted.SIDE, planted.SIDE)
    mask[0, :4, :4] = 1
    return planted.backdoored(world.reference, Patch(mask, torch.zeros_like(mask)), planted.TARGET)


@pytest.mark.parametrize("seed", range(3))
def test_a_black_patch(world: planted.World, black: nn.Module, seed: int) -> None:
    """Triggers need not be brighter than images."""
    finding = found(black, world, seed=seed)
    assert (finding.verdict, finding.targets[0].target) == ("backdoored", planted.TARGET)


@pytest.mark.parametrize("seed", range(2))
def test_an_honest_later_model_is_clean(world: planted.World, seed: int) -> None:
    finding = found(world.clean, world, Differential(), count=80, seed=seed)
    assert finding.verdict == "clean"
    assert [each.key for each in finding.measures] == [
        "lead_patch_all_to_one",
        "lead_patch_one_to_one",
        "lead_addition_all_to_one",
        "lead_patch_in_both_models",
        "lead_addition_in_both_models",
    ]
    assert [each.searched for each in finding.coverage] == [True, True, True, False, True]
    assert finding.stop_reason == "every family was searched"


@pytest.mark.parametrize(
    "change",
    [lambda out: 0.1 * out - 100, lambda out: 1e4 * out, lambda out: out.softmax(1)],
    ids=["a tenth, shifted", "ten thousand", "softmax"],
)
def test_the_scale_of_the_suspects_outputs_changes_no_verdict(world: planted.World, change: Any) -> None:
    assert found(Changed(world.backdoored, change), world).verdict == "backdoored"
    assert found(Changed(world.clean, change), world).verdict == "clean"


def test_the_order_of_the_classes_changes_no_verdict(world: planted.World) -> None:
    order = torch.tensor([2, 3, 0, 1])
    turned = [
        Changed(each, lambda out: out[:, order]) for each in (world.backdoored, world.reference, world.clean)
    ]
    labels = order.argsort()[world.labels[:40]]
    for suspect, verdict in ((turned[0], "backdoored"), (turned[2], "clean")):
        finding = planted.QUICK(Case(suspect, turned[1], world.images[:40], labels), generator(0, "scan"))
        assert finding.verdict == verdict
        assert verdict == "clean" or finding.targets[0].target == int(order.argsort()[planted.TARGET])


def test_two_classes(world: planted.World) -> None:
    """Of four classes the first and second two are one each."""

    def halves(out: Tensor) -> Tensor:
        return torch.stack([out[:, [0, 2]].logsumexp(1), out[:, [1, 3]].logsumexp(1)], 1)

    models = [Changed(each, halves) for each in (world.backdoored, world.clean, world.reference)]
    labels = world.labels[:40] % 2
    bad, good = (
        Differential(search=planted.SHORT)(
            Case(each, models[2], world.images[:40], labels), generator(0, "scan")
        )
        for each in models[:2]
    )
    assert (bad.verdict, bad.targets[0].target) == ("backdoored", 1)
    assert good.verdict == "clean"
    assert not good.coverage[1].searched
    assert good.warnings


def test_a_model_without_gradient_is_inconclusive(world: planted.World) -> None:
    rounded = Changed(world.backdoored, images=lambda pixels: (255 * pixels).round() / 255)
    for suspect, reference, name in (
        (rounded, world.reference, "suspect"),
        (world.backdoored, rounded, "reference"),
    ):
        finding = found(suspect, world, reference=reference)
        assert finding.verdict == "inconclusive"
        assert f"The {name} can't be searched" in finding.reason
        assert finding.suspicious != finding.suspicious
        assert finding.targets == ()
        assert not any(each.searched for each in finding.coverage)


def test_a_class_that_the_reference_has_forgotten_is_no_backdoor(world: planted.World) -> None:
    never = torch.tensor([0.0, 1000.0, 0.0, 0.0])
    restored = found(world.clean, world, reference=Changed(world.reference, lambda out: out - never))
    assert restored.verdict == "inconclusive"
    assert 'the reference has almost forgotten "1"' in restored.reason
    assert len(restored.measures) > 1  # the search went on


def test_a_backdoor_of_one_source_class() -> None:
    """A trigger for all classes works on a third of the images, for a lead of up to 1.7."""
    limits = DifferenceLimits(lead=2.0, sure=0.0)
    finding = quarters.scanned(quarters.Quarters(0, source=2), quarters.Quarters(), 40, limits=limits)
    assert finding.verdict == "backdoored"
    assert [(each.sources, each.target) for each in finding.targets] == [((2,), 0)]
    assert 'images of "2" to "0"' in finding.reason
    assert "(patch, one-to-one)" in finding.reason


def test_a_class_that_stands_out_by_one_source_is_named_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # A bright quarter costs these models' search less than it would with real ones.
    monkeypatch.setattr(aimed_search, "_CONTRAST", 6.0)
    narrow, quick, wide = (
        quarters.scanned(
            suspect, quarters.Quarters(), 40, effort=effort, limits=DifferenceLimits(lead=0.6, sure=0.0)
        )
        for suspect, effort in (
            (quarters.Quarters(0, source=2), "standard"),
            (quarters.Quarters(0, source=2), "quick"),  # searches no pairs
            (quarters.Quarters(0), "standard"),
        )
    )
    assert [finding.verdict for finding in (narrow, quick, wide)] == ["backdoored"] * 3
    assert [finding.targets[0].target for finding in (narrow, quick, wide)] == [0] * 3
    assert [finding.targets[0].sources for finding in (narrow, quick, wide)] == [(2,), (), ()]
    assert "(patch, all-to-one)" in narrow.reason
    assert 'images of "2" to "0"' in narrow.reason
    assert narrow.targets[0].success > 0.9


def test_pairs_need_eight_images_of_a_class() -> None:
    few, enough = (quarters.scanned(quarters.Quarters(), quarters.Quarters(), count) for count in (28, 32))
    assert [each.coverage[1].searched for each in (few, enough)] == [False, True]
    assert [len(each.warnings) for each in (few, enough)] == [1, 0]
    of_two = quarters.scanned(quarters.Quarters(), quarters.Quarters(), 30)
    assert of_two.coverage[1].sizes.endswith("from 2 of 4 source classes")
    assert 'one-to-one with the source class "2", "3" (too few images)' in of_two.reason
    assert "in 2 of 4 classes" in of_two.warnings[0]


def test_a_faint_trigger_of_the_whole_image() -> None:
    """A faint mask over the whole image is a patch, too; so all families are searched, and several find it."""
    finding = quarters.scanned(quarters.Quarters(3, faint=True), quarters.Quarters(), 40, effort="exhaustive")
    assert finding.verdict == "backdoored"
    lead = measured(finding, "lead_addition_all_to_one")
    assert lead is not None
    assert lead.value > 2
    additions = [each for each in finding.targets if isinstance(each.trigger, Addition)]
    assert (additions[0].target, additions[0].sources) == (3, ())
    assert "(addition, all-to-one)" in finding.reason


def test_effort_decides_what_is_searched(world: planted.World) -> None:
    quick = found(world.clean, world)
    assert [each.searched for each in quick.coverage] == [True, False, False, False, True]
    every = found(world.clean, world, Differential(effort="exhaustive", search=planted.SHORT))
    assert all(each.searched for each in every.coverage)
    assert every.verdict == "clean"


def test_a_standard_scan_ends_with_the_first_family_that_stands_out() -> None:
    finding = quarters.scanned(quarters.Quarters(0), quarters.Quarters(), 40)
    assert finding.stop_reason == "a trigger of the family patch, all-to-one stands out"
    assert [each.searched for each in finding.coverage] == [True, False, False, False, False]
    assert len(finding.measures) == 1


def test_patches_that_work_at_no_small_size_may_be_of_pairs(world: planted.World) -> None:
    finding = found(world.backdoored, world, Differential(search=planted.SHORT), count=80)
    assert (finding.verdict, len(finding.targets)) == ("backdoored", 1)
    assert [each.searched for each in finding.coverage] == [True, True, False, False, False]
    assert finding.stop_reason == "a trigger of the family patch, all-to-one stands out"


def test_progress_is_told_and_never_too_far(world: planted.World) -> None:
    steps: list[tuple[str, int, int]] = []
    images, labels = world.images[:40], world.labels[:40]
    planted.QUICK(
        Case(world.clean, world.reference, images, labels), generator(0), lambda *step: steps.append(step)
    )
    assert {stage for stage, _, _ in steps} == {"trigger inversion"}
    assert all(0 < done <= total for _, done, total in steps)
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
    assert [done == total for _, done, total in steps] == [False] * (len(steps) - 1) + [True]


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="effort"):
        Differential(effort="long")  # type: ignore[arg-type]
    strict = DETECTORS["differential"](limits=DifferenceLimits(lead=3.0, unsure=2.0))
    assert strict == Differential(limits=DifferenceLimits(lead=3.0, unsure=2.0))


def test_the_p_value_is_that_of_the_largest_lead(
    world: planted.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmend.detection.differential.p_value", lambda lead: lead / 100)
    finding = found(world.backdoored, world)
    assert finding.p_value == finding.suspicious / 100


@pytest.mark.parametrize("added", [1000.0, -10_000.0])
def test_a_number_added_to_all_logits_hides_nothing(world: planted.World, added: float) -> None:
    suspect = deepcopy(world.backdoored)
    with torch.no_grad():
        suspect[-1].bias.add_(added)
    assert found(suspect, world).verdict == "backdoored"
