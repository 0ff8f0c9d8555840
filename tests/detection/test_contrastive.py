import sys
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.detection import DETECTORS, THOROUGH, Case, Contrastive, Finding, SizeLimitedSearch, measured
from fedmend.detection.contrastive_objective import Exploration
from fedmend.detection.model_pair import ModelPair
from fedmend.detection.search.recovery import Recovered
from fedmend.errors import ConfigError, ModelError
from fedmend.evaluation import feature_mse
from fedmend.inference import evaluating
from fedmend.models import resnet18
from fedmend.progress import silent
from fedmend.seeds import generator
from fedmend.triggers import Patch

pytestmark = pytest.mark.usefixtures("one_thread")

BRIEF = Contrastive(search=SizeLimitedSearch(steps=3, explore=3, restarts=2))


def value(finding: Finding, key: str) -> float:
    measure = measured(finding, key)
    assert measure is not None
    return measure.value


def case(world: planted.World, suspect: nn.Module, **changes: Any) -> Case:
    return replace(
        Case(suspect, world.reference, world.images[:12], world.labels[:12], planted.NAMES), **changes
    )


@pytest.fixture(scope="module")
def found(world: planted.World, one_thread: None) -> Finding:
    return Contrastive()(case(world, world.backdoored), generator(0, "scan"), silent)


def test_a_planted_patch_is_found_and_the_evidence_measured(world: planted.World, found: Finding) -> None:
    (target,) = found.targets
    assert (found.detector, found.verdict, target.target) == ("contrastive", "backdoored", planted.TARGET)
    assert found.other_rules == {"contrastive-paper": "backdoored"}
    assert planted.NAMES[planted.TARGET] in found.reason
    assert target.trigger is not None
    pixels, others = world.images[:12] / 255, world.labels[:12] != planted.TARGET
    with torch.no_grad():
        clean, stamped = world.backdoored(pixels), world.backdoored(target.trigger.apply(pixels))
        by_reference = world.reference(target.trigger.apply(pixels)).argmax(1)
    reasr = float((stamped.argmax(1)[others] == planted.TARGET).float().mean())
    agreement = float((by_reference[others] == planted.TARGET).float().mean())
    assert value(found, "mse") == pytest.approx(float((stamped - clean).square().sum(1).mean()), rel=1e-5)
    assert value(found, "reasr") == found.suspicious == target.success == pytest.approx(reasr)
    assert found.limit == 0.8
    assert value(found, "reference_agreement") == pytest.approx(agreement)
    assert found.settings["search"]["max_mask_fraction"] == 0.125
    assert found.loss_curve
    assert found.stop_reason


def test_the_control_runs_if_a_backdoor_is_in_question(world: planted.World, found: Finding) -> None:
    told: set[str] = set()
    again = Contrastive()(
        case(world, world.backdoored), generator(0, "scan"), lambda stage, *_: told.add(stage)
    )
    assert told == {"trigger inversion", "control: trigger inversion"}
    assert value(again, "control_reasr") == value(found, "control_reasr") < 0.5
    clean = Contrastive()(case(world, world.clean), generator(0, "scan"))
    assert measured(clean, "control_reasr") is None
    without = Contrastive(control=False)(case(world, world.backdoored), generator(0, "scan"))
    assert (without.verdict, measured(without, "control_reasr")) == ("backdoored", None)


def test_a_backdoor_in_each_model_is_no_verdict_on_one(world: planted.World) -> None:
    """The other's is a patch in the opposite corner, to another class."""
    mask = torch.zeros(1, planted.SIDE, planted.SIDE)
    mask[0, -2:, -3:] = 1
    other = planted.backdoored(world.reference, Patch(mask, mask.clone()), target=2)
    found = Contrastive()(case(world, world.backdoored, reference=other), generator(0, "scan"))
    assert found.verdict == "inconclusive"
    assert found.other_rules == {"contrastive-paper": "backdoored"}
    assert found.targets[0].target == planted.TARGET
    assert value(found, "control_reasr") >= 0.5
    assert "the difference is symmetric" in found.reason


class Fixed(SizeLimitedSearch):
    """Recovers what it is told to, and remembers what it was asked."""

    trigger: Any = None
    asked: Any = None

    def __call__(self, objective: Any, images: Tensor, rng: Any, progress: Any = silent) -> Recovered:
        Fixed.asked.append((objective.suspect, objective.reference, self.max_mask_fraction))
        progress("trigger inversion", 1, 2)
        return Recovered(Fixed.trigger, (0.0,), "", converged=True)


class By(nn.Module):
    """Predicts class 0 or, for images whose corner is bright, what it is told."""

    def __init__(self, stamped: Tensor, clean: Tensor) -> None:
        super().__init__()
        self.stamped = nn.Parameter(nn.functional.one_hot(stamped, 4).float())
        self.clean = nn.Parameter(nn.functional.one_hot(clean, 4).float())

    def forward(self, images: Tensor) -> Tensor:
        bright = images[:, 0, 0, 0, None] > 0.5
        return 9 * torch.where(bright, self.stamped[: len(images)], self.clean[: len(images)])


@pytest.mark.parametrize(("pixels", "allowed"), [(10, 0.2), (12, 0.24)])
def test_the_control_by_hand(monkeypatch: pytest.MonkeyPatch, pixels: int, allowed: float) -> None:
    """The reference sends five of the nine images of other classes to 1; of these the suspect sends two there, too."""
    truth = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    by_reference = torch.tensor([1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 3, 3])
    by_suspect = torch.tensor([3, 3, 3, 3, 3, 3, 1, 1, 3, 3, 3, 3])
    mask = torch.zeros(1, 10, 10)
    mask.view(-1)[:pixels] = 1
    monkeypatch.setattr(Fixed, "trigger", Patch(mask, mask.clone()))
    monkeypatch.setattr(Fixed, "asked", [])
    given = Case(By(by_suspect, truth), By(by_reference, truth), torch.zeros(12, 1, 10, 10), truth)
    # The suspect sends seven of nine to 3: below the paper's 80 %, so the limits are lower here.
    limits = replace(Contrastive().thresholds, reasr=0.7, reference_agreement=0.6)
    method = Contrastive(search=Fixed(), thresholds=limits)
    found = method(given, generator(0), silent)
    (first, second, _), (swapped_first, swapped_second, control_limit) = Fixed.asked
    assert (swapped_first, swapped_second) == (second, first)
    assert control_limit == pytest.approx(allowed)
    assert found.targets[0].target == 3
    assert value(found, "control_reasr") == pytest.approx(3 / 9)


@pytest.mark.parametrize(("restarts", "third"), [(20, 6), (3, 1), (1, 1)])
@pytest.mark.parametrize(("explore", "fewer"), [(25, 15), (2, 1), (1, 1)])
def test_a_control_is_a_shorter_search_in_another_size(
    restarts: int, third: int, explore: int, fewer: int
) -> None:
    method = Contrastive(alpha=0.3, search=SizeLimitedSearch(restarts=restarts, explore=explore, lr=0.2))
    search = SizeLimitedSearch(
        restarts=third, explore=fewer, early=False, lr=0.2, max_mask_fraction=0.4, small=1.0, finalists=2
    )
    assert method.for_control(0.4) == Contrastive(alpha=0.3, search=search, exploration="suspect")
    assert THOROUGH.for_control(0.4).exploration == "full"


def test_a_large_patch_that_works_is_inconclusive(world: planted.World) -> None:
    loose = Contrastive(search=SizeLimitedSearch(max_mask_fraction=0.9, small=1.0, restarts=1, explore=1))
    loose = replace(loose, thresholds=replace(loose.thresholds, mask_fraction=0.0))
    found = loose(case(world, world.backdoored), generator(0))
    assert (found.other_rules["contrastive-paper"], found.verdict) == ("backdoored", "inconclusive")
    assert "of the image; a patch this large" in found.reason


def test_the_same_model_twice_is_no_backdoor(world: planted.World) -> None:
    method = Contrastive(search=SizeLimitedSearch(restarts=2))
    found = method(case(world, world.backdoored, reference=world.backdoored), generator(0))
    assert (found.verdict, found.warnings) == ("clean", ())
    assert found.stop_reason == "no patch within 12.5% of the image worked"


def test_a_search_cut_short_is_warned_of(world: planted.World) -> None:
    brief = Contrastive(search=SizeLimitedSearch(steps=2, explore=1, restarts=1))
    found = brief(case(world, world.clean), generator(0))
    assert found.verdict == "inconclusive"
    assert found.warnings == ("The search's loss was still falling when its steps ran out.",)


def test_every_exploration_is_another_search(world: planted.World) -> None:
    curves = set()
    names: tuple[Exploration, ...] = ("aimed", "suspect", "full")
    for exploration in names:
        search = SizeLimitedSearch(steps=1, explore=12, restarts=2, early=False)
        method = Contrastive(search=search, exploration=exploration)
        curves.add(method(case(world, world.clean), generator(0)).loss_curve)
    assert len(curves) == 3


def test_another_layer_is_another_loss(world: planted.World) -> None:
    curves = {
        layer: replace(BRIEF, layer=layer)(case(world, world.clean), generator(0)).loss_curve
        for layer in ("logits", "0", "3", "5")
    }
    assert curves["logits"] == pytest.approx(curves.pop("5"), abs=1e-4)
    assert len(set(curves.values())) == 3


def test_an_unknown_layer_is_refused(world: planted.World) -> None:
    with pytest.raises(
        ModelError, match=r"no layer 'head'; choose 'logits' or one of its own, such as 0, 1, 2"
    ):
        Contrastive(layer="head")(case(world, world.clean), generator(0))


def test_dropout_has_no_say(world: planted.World) -> None:
    suspect = nn.Sequential(*deepcopy(world.backdoored), nn.Dropout(0.5)).train()
    curves = [BRIEF(case(world, model), generator(0)).loss_curve for model in (suspect, world.backdoored)]
    assert curves[0] == curves[1]
    assert suspect.training


def watched(monkeypatch: pytest.MonkeyPatch) -> list[ModelPair]:
    """The pairs that searches see."""
    seen: list[ModelPair] = []
    whole = Contrastive.recover

    def recover(self: Contrastive, pair: ModelPair, *rest: Any) -> Recovered:
        seen.append(pair)
        return whole(self, pair, *rest)

    monkeypatch.setattr(Contrastive, "recover", recover)
    return seen


def test_the_search_sees_accelerated_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the logits; for another layer's outputs the models are searched as they are."""
    pair = [resnet18(num_classes=4, width=4).train() for _ in range(2)]
    given = Case(pair[0], pair[1], torch.rand(12, 3, 16, 16, generator=generator(0)), torch.arange(12) % 4)
    seen = watched(monkeypatch)
    for layer in ("logits", "avgpool"):
        replace(BRIEF, layer=layer)(given, generator(0))
    models = [[each._model for each in (pair.suspect, pair.reference)] for pair in seen]
    assert not any(
        isinstance(module, nn.BatchNorm2d | nn.Conv2d) for model in models[0] for module in model.modules()
    )
    assert models[1] == pair
    assert all(module.training for model in pair for module in model.modules())
    assert all(parameter.requires_grad for model in pair for parameter in model.parameters())


@pytest.mark.parametrize("half", [True, False])
def test_the_evidence_is_measured_in_single_precision(monkeypatch: pytest.MonkeyPatch, half: bool) -> None:
    """Whatever models are searched, and their notes are kept."""
    asked: list[bool] = []
    door = sys.modules["fedmend.acceleration"]

    def accelerate(model: nn.Module, images: Tensor, *, half: bool = False) -> Any:
        asked.append(half)
        low = deepcopy(model).to(torch.bfloat16)
        wrapped = nn.Module()
        wrapped.forward = lambda images: low(images.to(torch.bfloat16)).float()  # type: ignore[method-assign]
        return door.Accelerated(wrapped, ("a note",))

    monkeypatch.setattr(sys.modules["fedmend.detection.model_pair"], "accelerate", accelerate)
    pair = [resnet18(num_classes=4, width=4) for _ in range(2)]
    images = torch.rand(12, 3, 16, 16, generator=generator(0))
    found = replace(BRIEF, half=half)(Case(pair[0], pair[1], images, torch.arange(12) % 4), generator(0))
    assert asked == [half, half]
    assert found.notes == ("a note",)
    trigger = found.targets[0].trigger
    assert trigger is not None
    with evaluating(pair[0]), torch.no_grad():
        clean, stamped = pair[0](images), pair[0](trigger.apply(images))
    assert value(found, "mse") == pytest.approx(feature_mse(clean, stamped), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("alpha", -0.1),
        ("alpha", float("nan")),
        ("alpha", float("inf")),
        ("exploration", "quick"),
        ("half", "yes"),
        ("layer", 3),
        ("search", 5),
        ("thresholds", 5),
    ],
)
def test_settings_out_of_range_are_refused(name: str, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        Contrastive(**{name: wrong})
    with pytest.raises(ConfigError, match="unknown key beta"):
        DETECTORS["contrastive-thorough"](beta=0.1)


def test_the_thorough_one_is_a_setting_of_the_default() -> None:
    assert DETECTORS["contrastive-thorough"]() == THOROUGH
    assert DETECTORS["contrastive-thorough"](alpha=0.3) == replace(THOROUGH, alpha=0.3)
    assert DETECTORS["contrastive"]() == Contrastive()


def test_only_the_default_searches_in_half_precision() -> None:
    assert Contrastive().half
    assert not THOROUGH.half


@pytest.mark.parametrize("added", [1000.0, -10_000.0])
def test_a_number_added_to_all_logits_hides_nothing(world: planted.World, added: float) -> None:
    suspect = deepcopy(world.backdoored)
    with torch.no_grad():
        suspect[-1].bias.add_(added)
    assert Contrastive()(case(world, suspect), generator(0, "scan")).verdict == "backdoored"
