"""What a scan does with detectors of the user's own that fail, or change what they are shown."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

import planted
from fedmend.detection import Case, Finding, Need, scan
from fedmend.errors import ConfigError
from fedmend.parameters import flatten
from fedmend.progress import Progress


class Own:
    """Calls what it is given, and says clean."""

    def __init__(self, act: Callable[[Case], Any], *needs: Need) -> None:
        self.act, self.needs = act, frozenset(needs)

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        found = self.act(case)
        return found if isinstance(found, Finding) else Finding("own", "clean", "Nothing.", 0.0, 1.0)


def case_of(world: planted.World, **changes: Any) -> Case:
    given = {"reference": world.reference, "images": world.images[:12], "labels": world.labels[:12]}
    return Case(deepcopy(world.backdoored), **(given | changes))


def test_a_failure_says_which_detector_and_where(world: planted.World) -> None:
    with pytest.raises(
        ConfigError, match=r"the detector Own failed at .*test_users_detectors.py:\d+: ZeroDiv"
    ):
        scan(case_of(world), Own(lambda case: 1 / 0))


@pytest.mark.parametrize(
    ("lacks", "act", "told"),
    [
        (
            {"reference": None},
            lambda case: case.reference(case.pixels),
            r"a clean reference model \(Need.REF",
        ),
        ({"labels": None}, lambda case: case.labels.unique(), r"the images' labels \(Need.LABELS\)"),
    ],
)
def test_what_a_detector_uses_without_needing_it_is_named(
    world: planted.World, lacks: dict[str, Any], act: Callable[[Case], Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=f"NoneType.* The case lacks {told}.* belongs in its needs"):
        scan(case_of(world, **lacks), Own(act, Need.IMAGES))
    scan(case_of(world), Own(act, Need.IMAGES))


@pytest.mark.parametrize(
    ("lacks", "act", "told"),
    [
        ({"reference": None}, lambda case: case.reference_logits, "no reference; .* has Need.REFERENCE"),
        ({"images": None, "labels": None}, lambda case: case.pixels, "no images; .* has Need.IMAGES"),
    ],
)
def test_what_a_case_computes_says_what_it_lacks(
    world: planted.World, lacks: dict[str, Any], act: Callable[[Case], Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        scan(case_of(world, **lacks), Own(act))


def test_a_finding_is_checked_with_the_cases_classes(world: planted.World) -> None:
    from fedmend.detection import Target

    bad = Finding("own", "clean", "Nothing.", 0.0, 1.0, targets=(Target(planted.CLASSES, 0.5),))
    with pytest.raises(ConfigError, match=f"must be a class from 0 to {planted.CLASSES - 1}"):
        scan(case_of(world), Own(lambda case: bad))


@pytest.mark.parametrize("needs", [{Need.IMAGES}, frozenset({"images"}), (Need.IMAGES,), None])
def test_needs_are_a_frozenset_of_needs(world: planted.World, needs: Any) -> None:
    detector = Own(lambda case: None)
    detector.needs = needs
    with pytest.raises(ConfigError, match="an object with needs, a frozenset of Need, such as"):
        scan(case_of(world), detector)


def _zero(case: Case) -> None:
    for parameter in case.suspect.parameters():
        parameter.data.zero_()


def _add_to_reference(case: Case) -> None:
    assert case.reference is not None
    next(case.reference.parameters()).add_(1)


def _replace_layer(case: Case) -> None:
    case.suspect[0] = nn.Conv2d(1, 8, 3)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (_zero, "the suspect's 0.weight and 5 more"),
        (lambda case: case.suspect.double(), "the suspect's"),
        (_add_to_reference, "the reference's 0.weight"),
        (lambda case: case.images.zero_(), "images"),
        (lambda case: case.pixels.mul_(0), "pixels"),
    ],
)
def test_what_a_detector_changes_is_put_back_and_refused(
    world: planted.World, act: Callable[[Case], Any], told: str
) -> None:
    case = case_of(world, images=world.images[:12].clone())
    assert case.reference is not None
    before = [flatten(model.state_dict()) for model in (case.suspect, case.reference)]
    with pytest.raises(ConfigError, match=rf"the detector Own changed what it was shown \({told}.*deepcopy"):
        scan(case, Own(act))
    after = [flatten(model.state_dict()) for model in (case.suspect, case.reference)]
    assert all(map(torch.equal, before, after))
    assert case.images is not None
    assert torch.equal(case.images, world.images[:12])


def test_a_layer_put_in_another_s_place_is_noticed(world: planted.World) -> None:
    with pytest.raises(ConfigError, match="the detector Own changed what it was shown"):
        scan(case_of(world), Own(_replace_layer))


def test_what_a_failing_detector_changed_is_put_back(world: planted.World) -> None:
    def spoil(case: Case) -> None:
        _zero(case)
        raise RuntimeError("half-way")

    case = case_of(world)
    with pytest.raises(ConfigError, match="RuntimeError: half-way"):
        scan(case, Own(spoil))
    assert torch.equal(flatten(case.suspect.state_dict()), flatten(world.backdoored.state_dict()))


def test_modes_and_gradients_are_put_back_for_the_next(world: planted.World) -> None:
    def thaw(case: Case) -> None:
        case.suspect.train().requires_grad_(True)

    def look(case: Case) -> None:
        assert not case.suspect.training
        assert not any(parameter.requires_grad for parameter in case.suspect.parameters())

    scan(case_of(world), [Own(thaw), Own(look)])
