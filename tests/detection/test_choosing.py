"""Which detectors a case allows."""

from __future__ import annotations

import planted
from fedmend.detection import (
    DETECTORS,
    Case,
    DetectorChoice,
    Differential,
    MaximumMargin,
    Need,
    all_detectors,
    default_methods,
)
from fedmend.detection.choosing import LeftOut, by_reason, default_detectors


def test_a_case_knows_what_it_lacks(world: planted.World) -> None:
    assert Case(world.clean).lacks == frozenset(Need)
    assert Case(world.clean, world.reference, world.images).lacks == {Need.LABELS}


def test_the_default_depends_on_the_reference() -> None:
    assert default_methods(set()) == default_methods({Need.LABELS}) == ("differential",)
    assert default_methods({Need.REFERENCE}) == ("abs", "mm-bd")
    assert default_detectors() == DetectorChoice({"differential": Differential()})
    without_images = default_detectors(set(Need))
    assert without_images.detectors == {"mm-bd": MaximumMargin()}
    assert without_images.left_out == (LeftOut("abs", "needs clean images"),)


def test_all_are_those_that_need_nothing_that_is_missing() -> None:
    every = all_detectors()
    assert tuple(every.detectors) == tuple(DETECTORS)
    assert every.left_out == ()
    alone = all_detectors({Need.REFERENCE})
    assert LeftOut("differential", "needs a clean reference model") in alone.left_out
    assert {each.method for each in alone.left_out} | set(alone.detectors) == set(DETECTORS)
    assert not any(Need.REFERENCE in each.needs for each in alone.detectors.values())
    assert "mm-bd" in all_detectors(set(Need)).detectors


def test_what_was_left_out_is_told_by_reason() -> None:
    found = by_reason([LeftOut("a", "it is late"), LeftOut("b", "it is early"), LeftOut("c", "it is late")])
    assert found == {"it is late": ["a", "c"], "it is early": ["b"]}
