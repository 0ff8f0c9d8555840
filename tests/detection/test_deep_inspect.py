from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import planted
from fedmend.detection import Case, DeepInspect, GeneratedTriggers, ScanReport, scan
from fedmend.detection.lone_suspect import LoneSuspect
from fedmend.errors import ConfigError
from fedmend.seeds import generator
from fedmend.triggers import Addition

BRIEF = DeepInspect(search=GeneratedTriggers(rounds=2, batches=1, batch_size=4), inversion_steps=3)


def test_it_scans_a_model_without_any_images(world: planted.World) -> None:
    shaped = replace(BRIEF, image_shape=(1, planted.SIDE, planted.SIDE), inverted=3)
    report = scan(Case(world.backdoored, class_names=planted.NAMES), shaped, seed=0)
    (finding,) = report.findings
    assert finding.notes[0] == "searched on 12 images made by model inversion"
    assert len(finding.measures) == 1 + planted.CLASSES
    assert ScanReport.from_json(report.to_json()).to_json() == report.to_json()
    assert all(parameter.requires_grad for parameter in world.backdoored.parameters())


def test_without_images_and_their_shape_it_says_what_to_do(world: planted.World) -> None:
    with pytest.raises(ConfigError, match="image_shape"):
        BRIEF(Case(world.backdoored), generator(0))


def test_images_that_there_are_are_used(world: planted.World) -> None:
    stages = set[str]()
    case = Case(world.backdoored, images=world.images[:12])
    finding = BRIEF(case, generator(0), lambda stage, *_: stages.add(stage))
    assert stages == {"trigger generation"}
    assert not any("inversion" in note for note in finding.notes)


def test_the_deviation_is_that_of_the_lower_half(
    world: planted.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = BRIEF.search(suspect_of(world), generator(0))
    monkeypatch.setattr(
        GeneratedTriggers,
        "__call__",
        lambda *_: replace(found, norms=torch.tensor([1.0, 7.0, 8.0, 99.0]), reached=torch.ones(4).bool()),
    )
    finding = replace(BRIEF, limit=1.0)(Case(world.backdoored, images=world.images[:12]), generator(0))
    # The median is 7.5; the distances of 1 and 7 are 6.5 and 0.5, and their median 3.5.
    assert finding.suspicious == pytest.approx(6.5 / (1.4826 * 3.5))
    (target,) = finding.targets
    assert isinstance(target.trigger, Addition)


def suspect_of(world: planted.World) -> LoneSuspect:
    return LoneSuspect(world.clean, world.images[:12] / 255, world.labels[:12], planted.CLASSES, 1000)


@pytest.mark.parametrize(
    ("name", "wrong"), [("image_shape", (3, 0, 4)), ("inverted", 0), ("inversion_steps", -1), ("limit", 0.0)]
)
def test_settings_out_of_range_are_refused(name: str, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        DeepInspect(**{name: wrong})
