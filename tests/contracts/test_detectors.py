"""What every detector must do, whatever its settings. A new detector is a row in ``tests/detector_rows.py``."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import planted
from detector_rows import ROWS, Row
from fedmend.detection import (
    DETECTORS,
    Case,
    ContrastivePaper,
    Detector,
    Need,
    ScanReport,
    recovered,
    scan,
)
from fedmend.errors import ConfigError, DataError, ModelError
from fedmend.evaluation import attack_success_rate
from fedmend.goals import AllToOne
from fedmend.parameters import flatten
from fedmend.triggers import Addition, Patch

every_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


@pytest.fixture
def world(world: planted.World, row: Row, request: pytest.FixtureRequest) -> planted.World:
    """The world of nine classes for detectors that compare them."""
    nine: planted.World = request.getfixturevalue("nine") if row.compares_classes else world
    return nine


def scanned(
    world: planted.World,
    suspect: nn.Module,
    detector: Detector,
    seed: int = 0,
    count: int = 12,
    **changes: Any,
) -> ScanReport:
    case = Case(suspect, world.reference, world.images[:count], world.labels[:count], world.names)
    return scan(replace(case, **changes), detector, seed=seed)


@every_row
def test_it_finds_a_planted_patch(world: planted.World, row: Row) -> None:
    if not row.finds_patch:
        pytest.skip("the paper's method doesn't find a patch in so small a net")
    shown = planted.poisoned(world, row.images) if row.judges_images else {}
    report = scanned(world, world.backdoored, row.make(), count=row.images, **shown)
    (finding,) = report.findings
    assert report.verdict == finding.verdict == "backdoored"
    assert finding.suspicious > finding.limit
    assert finding.reason
    if row.names_target:
        assert finding.targets[0].target == world.target
        assert world.names[world.target] in finding.reason
    found = recovered(finding)
    assert (found is not None) == row.recovers_trigger
    if found is not None:
        assert isinstance(found.trigger, Patch | Addition)
        where, least = planted.patch().mask > 0, 0.5
        mask = found.trigger.mask if isinstance(found.trigger, Patch) else found.trigger.delta.abs()
        if isinstance(found.trigger, Addition):
            least = 0.3  # it needn't replace what is there
        assert max(float(mask[where].mean()), float(mask[where].sum() / mask.sum())) > least
        unseen = world.images[100:], world.labels[100:]
        assert attack_success_rate(world.backdoored, found.trigger, AllToOne(world.target), *unseen) > 0.8
        assert attack_success_rate(world.reference, found.trigger, AllToOne(world.target), *unseen) < 0.5


@every_row
def test_it_stays_quiet_on_the_clean_twin(world: planted.World, row: Row) -> None:
    """Without a reference, unless it needs one."""
    reference = world.reference if row.needs_reference else None
    report = scanned(world, world.clean, row.make(), count=row.images, reference=reference)
    (finding,) = report.findings
    assert report.verdict == finding.verdict == "clean"
    assert not finding.suspicious > finding.limit


class Rounding(nn.Module):
    """A model that rounds its pixels to 8 bits, so that its gradient is zero."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model((images * 255).round() / 255)
        return logits


@every_row
def test_a_search_that_could_not_search_does_not_say_clean(world: planted.World, row: Row) -> None:
    if row.judges_images:
        pytest.skip("it judges images, without a gradient")
    try:
        report = scanned(world, Rounding(world.backdoored), row.brief(), count=row.images)
    except ModelError as error:
        assert "gradient at the pixels is zero everywhere" in str(error)  # noqa: PT017 - either will do
    else:
        assert report.verdict != "clean"


@every_row
def test_the_seed_alone_decides(world: planted.World, row: Row) -> None:
    def once(seed: int) -> tuple[str, tuple[float, ...], list[Tensor]]:
        (finding,) = scanned(world, world.backdoored, row.brief(), seed, row.images).findings
        patches = [target.trigger for target in finding.targets if isinstance(target.trigger, Patch)]
        numbers = str([finding.suspicious, *(measure.value for measure in finding.measures)])
        return numbers, finding.loss_curve, [each for p in patches for each in (p.mask, p.pattern)]

    first, other = once(1), once(2)
    torch.rand(3)
    state = torch.get_rng_state()
    again = once(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert again[:2] == first[:2]
    assert all(torch.equal(*pair) for pair in zip(again[2], first[2], strict=True))
    differs = other[:2] != first[:2] or any(
        not torch.equal(*pair) for pair in zip(other[2], first[2], strict=False)
    )
    assert differs != row.deterministic


@every_row
def test_everything_is_left_as_it_came(world: planted.World, row: Row) -> None:
    suspect, reference = deepcopy(world.backdoored).train(), deepcopy(world.reference)
    suspect[1].eval()
    suspect[0].weight.requires_grad_(False)
    modes = [module.training for module in suspect.modules()]
    images, labels = world.images[:12] / 255, world.labels[:12].clone()
    kept = images.clone()
    scanned(world, suspect, row.brief(), reference=reference, images=images, labels=labels)
    assert torch.equal(images, kept)
    assert torch.equal(labels, world.labels[:12])
    assert [module.training for module in suspect.modules()] == modes
    assert not reference.training
    for model, twin in ((suspect, world.backdoored), (reference, world.reference)):
        assert torch.equal(flatten(model.state_dict()), flatten(twin.state_dict()))
        assert all(parameter.grad is None for parameter in model.parameters())
        assert not any(module._forward_hooks for module in model.modules())
    assert [parameter.requires_grad for parameter in suspect.parameters()] == [False, *[True] * 5]
    assert all(parameter.requires_grad for parameter in reference.parameters())


@every_row
def test_modes_are_put_back_after_an_error(world: planted.World, row: Row) -> None:
    suspect = deepcopy(world.backdoored).train()
    with pytest.raises(ModelError, match="expected input"):
        scanned(world, suspect, row.brief(), images=world.images[:12].expand(-1, 2, -1, -1))
    assert all(module.training for module in suspect.modules())
    assert all(parameter.requires_grad for parameter in suspect.parameters())


@every_row
def test_it_says_what_it_needs(world: planted.World, row: Row) -> None:
    detector = row.brief()
    assert (Need.REFERENCE in detector.needs) == row.needs_reference
    if not row.needs_reference:
        assert scanned(world, world.clean, detector, reference=None).reference_accuracy is None
        return
    with pytest.raises(ConfigError, match="needs a clean reference model"):
        scanned(world, world.clean, detector, reference=None)


@every_row
def test_without_labels_it_works_unless_it_needs_them(world: planted.World, row: Row) -> None:
    detector = row.brief()
    assert (Need.LABELS in detector.needs) == row.needs_labels
    if row.needs_labels:
        with pytest.raises(ConfigError, match="needs the images' labels"):
            scanned(world, world.clean, detector, labels=None)
        return
    report = scanned(world, world.clean, detector, labels=None)
    assert report.suspect_accuracy is None
    assert any("No labels were given" in warning for warning in report.warnings)


@every_row
def test_a_finding_can_be_kept(world: planted.World, row: Row) -> None:
    report = scanned(world, world.clean, row.brief())
    again = ScanReport.from_json(report.to_json())
    assert again.to_json() == report.to_json()
    assert again.findings[0].seconds > 0
    assert again.findings[0].settings


@every_row
def test_bad_input_is_refused(world: planted.World, row: Row) -> None:
    broken = deepcopy(world.backdoored)
    with torch.no_grad():
        broken[5].bias[0] = float("nan")
    with pytest.raises(ModelError, match="the suspect returns NaN"):
        scanned(world, broken, row.brief())
    with pytest.raises(DataError, match="N at least 10"):
        scanned(world, world.backdoored, row.brief(), count=9)
    for settings in row.refused:
        with pytest.raises(ConfigError, match=next(iter(settings))):
            row.make(**settings)


def test_every_detector_has_a_row_or_shares_one() -> None:
    others = {"contrastive-paper-cifar10", "contrastive-paper-gtsrb"}
    assert set(DETECTORS) - others == set(ROWS) - {"another's"}
    assert all(isinstance(DETECTORS[name](), ContrastivePaper) for name in others)
