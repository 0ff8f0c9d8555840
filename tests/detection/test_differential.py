from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.attacks import Poisoning
from fedmend.detection import DETECTORS, Case, Differential, DifferenceLimits, Finding
from fedmend.errors import ConfigError
from fedmend.goals import AllToOne, Goal, OneToOne
from fedmend.seeds import generator
from fedmend.triggers import Addition, NoiseBlend, Trigger

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = Differential(effort="quick")


def found(
    suspect: nn.Module,
    world: planted.World,
    method: Differential = QUICK,
    *,
    reference: nn.Module | None = None,
    count: int = 40,
    seed: int = 0,
) -> Finding:
    images, labels = world.images[:count], world.labels[:count]
    return method(Case(suspect, reference or world.reference, images, labels), generator(seed, "scan"))


def attacked(world: planted.World, trigger: Trigger, goal: Goal) -> nn.Module:
    """The reference, trained on with the trigger on half of the images that the goal attacks."""
    images, labels = Poisoning(trigger, goal, 0.5)(*planted.draw(400, seed=0), generator(0))
    model = deepcopy(world.reference).train()
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    order = generator(0, "order")
    for _ in range(200):
        batch = torch.randint(len(images), (32,), generator=order)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch] / 255), labels[batch]).backward()
        optimizer.step()
    return model.eval()


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
    finding = found(world.backdoored, world)
    assert (finding.detector, finding.verdict, finding.limit) == ("differential", "backdoored", 0.8)
    (target,) = finding.targets
    assert (target.target, target.sources, target.trigger is not None) == (planted.TARGET, (), True)
    assert target.success > 0.8
    assert len(target.variants) == 5  # one for each size
    assert finding.suspicious == finding.measures[0].value > 1.5
    assert finding.settings["effort"] == "quick"


@pytest.mark.parametrize("seed", range(3))
def test_an_honest_later_model_is_clean(world: planted.World, seed: int) -> None:
    finding = found(world.clean, world, Differential(), count=80, seed=seed)
    assert finding.verdict == "clean"
    assert [each.key for each in finding.measures] == [
        "lead_patch_all_to_one",
        "lead_patch_one_to_one",
        "lead_addition_all_to_one",
        "lead_in_both_models",
    ]
    assert [each.searched for each in finding.coverage] == [True, True, True, False]
    assert finding.stop_reason == "every family was searched"


@pytest.mark.parametrize(
    "change",
    [lambda out: 0.1 * out, lambda out: 1e4 * out, lambda out: out.softmax(1), lambda out: out - 100],
    ids=["tenth", "ten thousand", "softmax", "shifted"],
)
def test_the_scale_of_the_outputs_changes_no_verdict(world: planted.World, change: Any) -> None:
    assert found(Changed(world.backdoored, change), world).verdict == "backdoored"
    assert found(Changed(world.clean, change), world).verdict == "clean"
    both = found(Changed(world.backdoored, change), world, reference=Changed(world.reference, change))
    assert (both.verdict, both.targets[0].target) == ("backdoored", planted.TARGET)


def test_the_order_of_the_classes_changes_no_verdict(world: planted.World) -> None:
    order = torch.tensor([2, 3, 0, 1])
    turned = [
        Changed(each, lambda out: out[:, order]) for each in (world.backdoored, world.reference, world.clean)
    ]
    labels = order.argsort()[world.labels[:40]]
    for suspect, verdict in ((turned[0], "backdoored"), (turned[2], "clean")):
        finding = QUICK(Case(suspect, turned[1], world.images[:40], labels), generator(0, "scan"))
        assert finding.verdict == verdict
        assert verdict == "clean" or finding.targets[0].target == int(order.argsort()[planted.TARGET])


def test_two_classes(world: planted.World) -> None:
    """Of four classes the first and second two are one each."""

    def halves(out: Tensor) -> Tensor:
        return torch.stack([out[:, [0, 2]].logsumexp(1), out[:, [1, 3]].logsumexp(1)], 1)

    models = [Changed(each, halves) for each in (world.backdoored, world.clean, world.reference)]
    labels = world.labels[:40] % 2
    bad, good = (
        Differential()(Case(each, models[2], world.images[:40], labels), generator(0, "scan"))
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


def test_a_backdoor_in_both_models_is_inconclusive(world: planted.World) -> None:
    finding = found(world.backdoored, world, reference=world.backdoored)
    assert finding.verdict == "inconclusive"
    assert "Both models may be backdoored" in finding.reason


def test_a_poor_reference_is_inconclusive(world: planted.World) -> None:
    wrong = Changed(world.reference, lambda out: out.roll(1, 1))
    finding = found(world.backdoored, world, reference=wrong)
    assert finding.verdict == "inconclusive"
    assert "The reference gets only 0%" in finding.reason


def test_a_backdoor_of_one_source_class(world: planted.World) -> None:
    suspect = attacked(world, planted.patch(), OneToOne(source=2, target=0))
    finding = found(suspect, world, Differential(), count=80)
    assert finding.verdict == "backdoored"
    assert [(each.sources, each.target) for each in finding.targets][:1] == [((2,), 0)]
    few = found(suspect, world, Differential(), count=28)  # 7 a class
    assert not few.coverage[1].searched
    assert any("8 images or more" in warning for warning in few.warnings)


def test_a_faint_trigger_of_the_whole_image(world: planted.World) -> None:
    trigger = NoiseBlend((1, planted.SIDE, planted.SIDE), opacity=0.2, seed=0)
    finding = found(attacked(world, trigger, AllToOne(3)), world, Differential(), count=80)
    assert finding.verdict == "backdoored"
    assert finding.targets[0].target == 3
    assert (
        any(isinstance(each.trigger, Addition) for each in finding.targets)
        or finding.coverage[2].searched is False
    )


def test_effort_decides_what_is_searched(world: planted.World) -> None:
    quick = found(world.clean, world)
    assert [each.searched for each in quick.coverage] == [True, False, False, False]
    every = found(world.clean, world, Differential(effort="exhaustive"))
    assert [each.searched for each in every.coverage] == [True, True, True, True]
    assert every.verdict == "clean"


def test_a_standard_scan_ends_with_the_first_family_that_stands_out(world: planted.World) -> None:
    finding = found(world.backdoored, world, Differential(), count=80)
    assert finding.stop_reason == "a trigger of the family patch, all-to-one stands out"
    assert [each.searched for each in finding.coverage] == [True, False, False, False]
    assert len(finding.measures) == 1


def test_progress_is_told_and_never_too_far(world: planted.World) -> None:
    steps: list[tuple[str, int, int]] = []
    images, labels = world.images[:40], world.labels[:40]
    QUICK(Case(world.clean, world.reference, images, labels), generator(0), lambda *step: steps.append(step))
    assert {stage for stage, _, _ in steps} == {"trigger inversion"}
    assert all(0 < done <= total for _, done, total in steps)
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="effort"):
        Differential(effort="long")  # type: ignore[arg-type]
    strict = DETECTORS["differential"](limits=DifferenceLimits(lead=3.0, sure=3.5))
    assert strict == Differential(limits=DifferenceLimits(lead=3.0, sure=3.5))
