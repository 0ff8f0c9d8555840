"""What every inversion method must do, whatever its settings. A new method is a row in METHODS."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

import planted
from fedmend.cli.options import METHODS
from fedmend.detection import THOROUGH, Contrastive
from fedmend.detection.scan_report import ScanReport
from fedmend.detection.scanning import scan
from fedmend.errors import ConfigError, DataError, ModelError
from fedmend.evaluation import attack_success_rate
from fedmend.goals import AllToOne
from fedmend.parameters import flatten
from fedmend.seeds import generator

pytestmark = pytest.mark.usefixtures("one_thread")


def for_small_images(method: Contrastive) -> Contrastive:
    """A mask's pixels are weighed for images of 28x28; a pixel of 12x12 is more of the image. And fewer steps."""
    return replace(method, search=replace(method.search, beta=0.03, steps=250))


# The paper's settings for CIFAR-10 and GTSRB are chosen for those and make no sense on images this small.
ROWS = [
    pytest.param(METHODS["contrastive"], id="contrastive"),
    pytest.param(METHODS["contrastive-thorough"], id="contrastive-thorough"),
    pytest.param(for_small_images(METHODS["contrastive-paper-mnist"]), id="contrastive-paper-mnist"),
]
every_method = pytest.mark.parametrize("method", ROWS)


def scanned(world: planted.World, suspect: nn.Module, method: Contrastive) -> ScanReport:
    return scan(
        suspect, reference=world.reference, images=world.images[:12], labels=world.labels[:12], method=method
    )


def brief(method: Contrastive) -> Contrastive:
    return replace(method, search=replace(method.search, steps=5, explore=4, starts=2))


def brief_steps(method: Contrastive) -> int:
    """The paper's search explores nothing."""
    return 4 + 5 if method.search.beta is None else 5


@every_method
def test_it_finds_a_planted_patch(world: planted.World, method: Contrastive) -> None:
    report = scanned(world, world.backdoored, method)
    assert (report.verdict, report.paper_verdict) == ("backdoored", "backdoored")
    assert report.target_class == planted.TARGET
    assert float(report.trigger.mask[planted.patch().mask > 0].mean()) > 0.5
    unseen = world.images[100:], world.labels[100:]
    assert attack_success_rate(world.backdoored, report.trigger, AllToOne(planted.TARGET), *unseen) > 0.8
    assert attack_success_rate(world.reference, report.trigger, AllToOne(planted.TARGET), *unseen) < 0.5


@every_method
def test_it_stays_quiet_on_the_clean_twin(world: planted.World, method: Contrastive) -> None:
    report = scanned(world, world.clean, method)
    assert (report.verdict, report.paper_verdict) == ("clean", "clean")
    assert report.reasr < 0.5


@every_method
def test_the_seed_alone_decides(world: planted.World, method: Contrastive) -> None:
    def once(seed: int) -> torch.Tensor:
        images = world.images[:12] / 255
        found = brief(method)(world.backdoored, world.reference, images, generator(seed))
        assert found.trigger.pattern.shape == (1, planted.SIDE, planted.SIDE)
        assert len(found.loss_curve) == brief_steps(method)
        return torch.cat([found.trigger.mask, found.trigger.pattern])

    first, other = once(1), once(2)
    torch.rand(3)
    state = torch.get_rng_state()
    assert torch.equal(once(1), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, other)


@every_method
def test_everything_is_left_as_it_came(world: planted.World, method: Contrastive) -> None:
    suspect, reference = deepcopy(world.backdoored).train(), deepcopy(world.reference)
    suspect[0].weight.requires_grad_(False)
    images = world.images[:12] / 255
    kept = images.clone()
    brief(method)(suspect, reference, images, generator(0))
    assert torch.equal(images, kept)
    assert suspect.training
    assert not reference.training
    for model, twin in ((suspect, world.backdoored), (reference, world.reference)):
        assert torch.equal(flatten(model.state_dict()), flatten(twin.state_dict()))
        assert all(parameter.grad is None for parameter in model.parameters())
    assert [parameter.requires_grad for parameter in suspect.parameters()] == [False, *[True] * 5]
    assert all(parameter.requires_grad for parameter in reference.parameters())


@every_method
def test_a_layer_within_is_as_good_a_place_to_look(world: planted.World, method: Contrastive) -> None:
    found = brief(replace(method, layer="3"))(
        world.backdoored, world.reference, world.images[:12] / 255, generator(0)
    )
    assert len(found.loss_curve) == brief_steps(method)


@every_method
def test_bad_input_is_refused(world: planted.World, method: Contrastive) -> None:
    with pytest.raises(ModelError, match="no layer 'nowhere'"):
        scanned(world, world.backdoored, replace(method, layer="nowhere"))
    broken = deepcopy(world.backdoored)
    with torch.no_grad():
        broken[5].bias[0] = float("nan")
    with pytest.raises(ModelError, match="NaN"):
        scanned(world, broken, method)
    with pytest.raises(ModelError, match="NaN"):
        method(broken, world.reference, world.images[:12] / 255, generator(0))
    with pytest.raises(DataError):
        scan(world.backdoored, reference=world.reference, images=world.images[:9], method=method)
    with pytest.raises(ConfigError):
        replace(method, alpha=float("nan"))


def test_every_choice_of_the_command_line_is_a_method() -> None:
    assert set(METHODS) == {
        "contrastive",
        "contrastive-thorough",
        *(f"contrastive-paper-{name}" for name in ("mnist", "cifar10", "gtsrb")),
    }
    assert METHODS["contrastive"] == Contrastive()
    assert METHODS["contrastive-thorough"] == THOROUGH
