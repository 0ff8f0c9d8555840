"""Models that are too large for all images, or all of the search, at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

import planted
from fedmend.detection import (
    Case,
    ContrastivePaper,
    Differential,
    Finding,
    differential,
    model_pair,
    patch_evidence,
    search_plan,
)
from fedmend.errors import ConfigError
from fedmend.seeds import generator


def found(suspect: nn.Module, world: planted.World, method: Differential = planted.QUICK) -> Finding:
    case = Case(suspect, world.reference, world.images[:40], world.labels[:40])
    return method(case, generator(0, "scan"))


def test_a_search_in_parts_finds_the_same(world: planted.World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = found(world.backdoored, world)
    monkeypatch.setattr(differential, "images_at_once", lambda *_: 3)
    parts = found(world.backdoored, world)
    assert parts.verdict == whole.verdict == "backdoored"
    assert [each.target for each in parts.targets] == [each.target for each in whole.targets]


def test_a_model_too_large_for_the_memory_is_refused_before_the_search(world: planted.World) -> None:
    steps = list[int]()
    with pytest.raises(ConfigError, match=r"needs about .* and may take 1 MiB"):
        Differential(memory=1000)(
            Case(world.clean, world.reference, world.images, world.labels),
            generator(0, "scan"),
            lambda _stage, done, _total: steps.append(done),
        )
    assert steps == []


PAPER = ContrastivePaper(alpha=0.5, beta=0.01, steps=3)


@pytest.mark.parametrize("layer", ["logits", "0"])
def test_the_papers_search_in_parts_finds_the_same(
    world: planted.World, monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    method = replace(PAPER, layer=layer)
    case = Case(world.backdoored, world.reference, world.images[:12], world.labels[:12])
    whole = method(case, generator(0, "scan"))
    monkeypatch.setattr(model_pair, "images_at_once", lambda *_: 5)
    monkeypatch.setattr(patch_evidence, "batch_size_for", lambda _: 5)
    parts = method(case, generator(0, "scan"))
    assert parts.loss_curve == pytest.approx(whole.loss_curve, rel=1e-3, abs=1e-4)
    assert [each.value for each in parts.measures] == pytest.approx(
        [each.value for each in whole.measures], rel=1e-2, abs=1e-3
    )


def test_a_model_too_large_for_the_memory_is_refused_by_it_as_well(world: planted.World) -> None:
    case = Case(world.backdoored, world.reference, world.images[:12], world.labels[:12])
    with pytest.raises(ConfigError, match="may take 1 MiB"):
        replace(PAPER, memory=1000)(case, generator(0, "scan"))


def test_a_large_model_is_searched_for_fewer_classes_and_the_finding_says_so(
    world: planted.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = found(world.backdoored, world).targets[0].target
    monkeypatch.setattr(search_plan, "WORK", 1e6)
    finding = found(world.backdoored, world, Differential())
    assert (finding.verdict, finding.targets[0].target) == ("backdoored", target)
    assert finding.p_value is None
    assert any("the search was cut" in note for note in finding.notes)
    clean = found(world.clean, world, Differential())
    assert clean.verdict != "backdoored"
    cut = "the model is large, and the passes of one scan were used up"
    assert cut in {each.why_not for each in clean.coverage}
    assert all(each.measured is None for each in clean.coverage)
