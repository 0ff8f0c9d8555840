from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.acceleration import Accelerated
from fedmend.detection import (
    DETECTORS,
    PAPER_SETTINGS,
    Case,
    ContrastivePaper,
    PaperThresholds,
    measured,
    model_pair,
)
from fedmend.detection.contrastive_loss import contrast
from fedmend.detection.search.ssim import SsimTo
from fedmend.errors import ConfigError, ModelError
from fedmend.evaluation import feature_mse
from fedmend.seeds import generator

BRIEF = ContrastivePaper(alpha=0.7, beta=0.02, steps=1)


def case(world: planted.World) -> Case:
    return Case(world.backdoored, world.reference, world.images[:12], world.labels[:12], planted.NAMES)


def test_the_first_loss_is_equation_4(world: planted.World) -> None:
    """Contrastive, alpha times -SSIM and beta times the mask's L1 norm, at the random start."""
    images = world.images[:12] / 255
    found = BRIEF(case(world), generator(3))
    trigger = found.targets[0].trigger
    assert trigger is not None
    stamped = trigger.apply(images)
    with torch.no_grad():
        suspect, reference = world.backdoored, world.reference
        loss = contrast(reference(stamped)[None], suspect(images)[None], suspect(stamped)[None])
        similarity = SsimTo(images)(stamped[None], torch.arange(12)[None])
        expected = loss - 0.7 * similarity + 0.02 * trigger.mask.sum()
    assert found.loss_curve == (pytest.approx(float(expected), abs=1e-5),)
    assert found.stop_reason == "all 1 steps were used"
    assert found.targets[0].variants == ()


def test_the_verdict_is_by_the_papers_rule_whatever_the_size_and_the_reference(world: planted.World) -> None:
    """Without a penalty on its size the patch covers much of the image, and the reference is fooled, too."""
    loose = ContrastivePaper(alpha=0.0, beta=0.0, steps=100)
    found = loose(case(world), generator(0))
    trigger = found.targets[0].trigger
    assert trigger is not None
    assert trigger.size / planted.SIDE**2 > 0.125
    assert (found.detector, found.verdict) == ("contrastive-paper", "backdoored")
    assert "above the paper's limits, 80% and 10" in found.reason
    assert [measure.key for measure in found.measures] == ["reasr", "mse"]
    reasr = measured(found, "reasr")
    assert reasr is not None
    assert reasr.value == found.suspicious
    strict = replace(loose, thresholds=PaperThresholds(mse=1e9))(case(world), generator(0))
    assert strict.verdict == "clean"


def test_a_loss_that_still_falls_is_warned_of(world: planted.World) -> None:
    assert BRIEF(case(world), generator(0)).warnings


def test_another_layer_is_another_loss(world: planted.World) -> None:
    curves = {
        layer: replace(BRIEF, layer=layer)(case(world), generator(0)).loss_curve
        for layer in ("logits", "0", "3", "5")
    }
    assert curves["logits"] == pytest.approx(curves.pop("5"), abs=1e-4)
    assert len(set(curves.values())) == 3


def test_dropout_has_no_say(world: planted.World) -> None:
    suspect = nn.Sequential(*deepcopy(world.backdoored), nn.Dropout(0.5)).train()
    curves = [
        BRIEF(replace(case(world), suspect=model), generator(0)).loss_curve
        for model in (suspect, world.backdoored)
    ]
    assert curves[0] == curves[1]
    assert suspect.training


def test_the_evidence_is_of_the_model_as_given(world: planted.World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever model is searched."""

    def accelerate(model: nn.Module, images: Tensor, *, half: bool) -> Accelerated:
        assert not half
        return Accelerated(nn.Sequential(deepcopy(model), Tripled()), ("a note",))

    monkeypatch.setattr(model_pair, "accelerate", accelerate)
    found = BRIEF(case(world), generator(0))
    images, trigger = world.images[:12] / 255, found.targets[0].trigger
    assert found.notes == ("a note",)
    assert trigger is not None
    with torch.no_grad():
        moved = feature_mse(world.backdoored(images), world.backdoored(trigger.apply(images)))
    mse = measured(found, "mse")
    assert mse is not None
    assert mse.value == pytest.approx(moved, rel=1e-5)


class Tripled(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return 3 * logits


def test_the_settings_are_those_of_a_2() -> None:
    assert {name: (each.alpha, each.beta) for name, each in PAPER_SETTINGS.items()} == {
        "mnist": (0.5, 0.01),
        "cifar10": (0.001, 0.0005),
        "gtsrb": (0.001, 0.005),
    }
    assert all((each.steps, each.layer) == (500, "logits") for each in PAPER_SETTINGS.values())
    for name, each in PAPER_SETTINGS.items():
        assert DETECTORS[f"contrastive-paper-{name}"]() == each


def test_an_unknown_layer_is_refused(world: planted.World) -> None:
    with pytest.raises(ModelError, match="no layer 'head'"):
        replace(BRIEF, layer="head")(case(world), generator(0))


@pytest.mark.parametrize(
    ("name", "wrong"), [("alpha", -0.1), ("beta", float("nan")), ("steps", 0), ("lr", 0.0), ("restarts", 3)]
)
def test_settings_out_of_range_are_refused(name: str, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        ContrastivePaper(**{"alpha": 0.1, "beta": 0.1, name: wrong})
