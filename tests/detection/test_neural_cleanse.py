from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.acceleration import Accelerated
from fedmend.detection import Case, ClassInversion, NeuralCleanse, lone_suspect, measured
from fedmend.detection.lone_suspect import success_of
from fedmend.errors import ConfigError
from fedmend.seeds import generator

BRIEF = NeuralCleanse(search=ClassInversion(rounds=3, batches=2, batch_size=8))


def case(world: planted.World) -> Case:
    return Case(world.backdoored, images=world.images[:12], class_names=planted.NAMES)


def test_a_class_is_measured_by_the_norm_of_its_mask(world: planted.World) -> None:
    finding = BRIEF(case(world), generator(0))
    with lone_suspect.accelerated_suspect(case(world)) as suspect:
        norms = BRIEF.search(suspect, generator(0)).norms.tolist()
    assert [measure.value for measure in finding.measures[1:]] == norms
    assert finding.measures[3].name == 'Class "south-west"'
    assert (finding.detector, finding.stop_reason) == ("neural-cleanse", "all 3 rounds were used")


def test_two_classes_are_inconclusive() -> None:
    images = torch.rand(12, 1, 4, 4, generator=generator(0))
    two = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    nn.init.normal_(two[1].weight, generator=generator(0))
    labels = torch.arange(12) % 2
    finding = BRIEF(Case(two, images=images, labels=labels), generator(0))
    assert finding.verdict == "inconclusive"
    assert "2 classes are too few" in finding.reason


def test_success_is_of_the_model_as_given(world: planted.World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever model is searched."""
    monkeypatch.setattr(
        lone_suspect,
        "accelerate",
        lambda model, images: Accelerated(nn.Sequential(model, Blind()), ("a note",)),
    )
    finding = BRIEF(case(world), generator(0))
    assert finding.notes == ("a note",)
    monkeypatch.undo()
    assert success_of(case(world), planted.patch(), planted.TARGET) > 0.9
    assert success_of(case(world), planted.patch(), 0) < 0.1
    only = replace(case(world), labels=torch.full((12,), planted.TARGET))
    assert success_of(only, planted.patch(), planted.TARGET) == 0


class Blind(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return logits * 0.5


def test_too_little_memory_is_refused(world: planted.World) -> None:
    with pytest.raises(ConfigError, match="memory"):
        replace(BRIEF, memory=1)(case(world), generator(0))


def test_a_class_without_a_working_patch_is_warned_of(world: planted.World) -> None:
    short = NeuralCleanse(search=ClassInversion(rounds=1, batches=1, batch_size=8, lr=1e-6))
    finding = short(case(world), generator(0))
    assert any("No trigger came to the success" in warning for warning in finding.warnings)
    norm = measured(finding, "class_0")
    assert norm is not None
    assert norm.value > 50
