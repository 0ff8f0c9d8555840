import json
import math
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedmend.detection.scan_report import Examples, ScanReport, Thresholds
from fedmend.errors import DataError
from fedmend.triggers import Patch

JUNK: tuple[Any, ...] = (None, -1, 3.5, "junk", "ü", [], [1], {}, {"mask": 1}, True, 10**30)


def report() -> ScanReport:
    random = torch.Generator().manual_seed(0)
    return ScanReport(
        verdict="backdoored",
        reason='A patch sends everything to "coat" – 98 %.',
        paper_verdict="inconclusive",
        target_class=4,
        reasr=1 / 3,
        mse=12.3456789012345,
        reference_agreement=0.1,
        suspect_accuracy=0.9,
        reference_accuracy=0.85,
        thresholds=Thresholds(mse=11.0),
        trigger=Patch(torch.rand(1, 4, 5, generator=random), torch.rand(3, 4, 5, generator=random)),
        loss_curve=(3.0, 0.1 + 0.2, -1e-300),
        steps=3,
        stop_reason="nothing changed any more",
        seconds=0.7,
        num_images=30,
        class_names=("shirt", "Schuh ß", ""),
        method="contrastive",
        settings={"lr": 0.1, "layer": "logits", "alpha": None, "deep": {"list": [1, 2.5, "x"]}, "on": True},
        seed=2**62,
        device="cpu",
        versions={"torch": "2.13.0"},
        examples=Examples(
            images=torch.randint(0, 256, (2, 3, 4, 5), generator=random, dtype=torch.uint8),
            labels=torch.tensor([0, 2]),
            suspect_clean=torch.tensor([0, 2]),
            suspect_stamped=torch.tensor([2**40, -1]),
            reference_stamped=torch.tensor([0, 1]),
        ),
        control_reasr=0.125,
        variants=(Patch(torch.rand(1, 4, 5, generator=random), torch.rand(3, 4, 5, generator=random)),),
        warnings=("few images",),
    )


def tensors(found: ScanReport) -> dict[Any, Tensor]:
    named = {field.name: getattr(found.examples, field.name) for field in fields(Examples)}
    triggers = {"trigger": found.trigger} | {f"variant {i}": v for i, v in enumerate(found.variants)}
    parts = {(name, part): getattr(t, part) for name, t in triggers.items() for part in ("mask", "pattern")}
    return named | parts


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every part of nested lists and dicts."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from paths(value[key], (*path, key))


def changed(path: tuple[Any, ...], value: Any, *, remove: bool = False) -> str:
    """The report's JSON with one part replaced or removed."""
    content = json.loads(report().to_json())
    place = content
    for key in path[:-1]:
        place = place[key]
    if remove:
        del place[path[-1]]
    elif path:
        place[path[-1]] = value
    else:
        content = value
    return json.dumps(content)


PATHS = list(paths(json.loads(report().to_json())))


def test_nothing_is_lost_on_the_way_to_json_and_back() -> None:
    before = report()
    after = ScanReport.from_json(before.to_json())
    for field in fields(ScanReport):
        if field.name not in ("trigger", "variants", "examples"):
            assert getattr(after, field.name) == getattr(before, field.name), field.name
    for name, value in tensors(before).items():
        other = tensors(after)[name]
        assert other.dtype == value.dtype
        assert torch.equal(other, value)
    assert after.to_json() == before.to_json()
    assert ScanReport.from_json(before.to_json().encode()).to_json() == before.to_json()


def test_json_is_plain_and_readable_elsewhere() -> None:
    content = json.loads(report().to_json())
    assert content["verdict"] == "backdoored"
    assert content["thresholds"] == {
        "mse": 11.0,
        "reasr": 0.8,
        "reference_agreement": 0.5,
        "suspicion": 0.5,
        "mask_share": 0.125,
    }
    assert content["trigger"]["mask"]["shape"] == [1, 4, 5]
    assert content["examples"]["images"]["dtype"] == "uint8"


@settings(deadline=None)
@given(st.lists(st.floats(), max_size=20), st.floats(), st.floats())
def test_every_float_comes_back_exactly(curve: list[float], mse: float, setting: float) -> None:
    before = replace(report(), loss_curve=tuple(curve), mse=mse, settings={"x": setting})
    after = ScanReport.from_json(before.to_json())
    pairs = [*zip(after.loss_curve, curve, strict=True), (after.mse, mse), (after.settings["x"], setting)]
    for came, went in pairs:
        assert came == went or (math.isnan(came) and math.isnan(went))
        assert math.copysign(1, came) == math.copysign(1, went) or math.isnan(went)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6))
def test_every_trigger_comes_back_bit_for_bit(values: list[float]) -> None:
    grid = torch.tensor(values).view(1, 2, 3)
    after = ScanReport.from_json(replace(report(), trigger=Patch(grid, 1 - grid)).to_json())
    assert torch.equal(after.trigger.mask.view(torch.int32), grid.view(torch.int32))
    assert torch.equal(after.trigger.pattern, 1 - grid)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_triggers_of_every_precision_survive(dtype: torch.dtype) -> None:
    grid = torch.rand(1, 2, 3).to(dtype)
    after = ScanReport.from_json(replace(report(), trigger=Patch(grid, grid)).to_json()).trigger
    assert after.mask.dtype == dtype
    assert torch.equal(after.mask, grid)


def test_tensors_may_be_views_part_of_a_graph_or_empty() -> None:
    mask = torch.rand(1, 5, 4).requires_grad_().transpose(1, 2)
    pattern = torch.rand(1, 4, 5).expand(3, -1, -1)
    none = torch.zeros(0, dtype=torch.int64)
    empty = Examples(torch.zeros(0, 3, 4, 5, dtype=torch.uint8), none, none, none, none)
    before = replace(report(), trigger=Patch(mask, pattern), examples=empty)
    after = ScanReport.from_json(before.to_json())
    assert torch.equal(after.trigger.mask, mask)
    assert torch.equal(after.trigger.pattern, pattern)
    assert after.examples.images.shape == (0, 3, 4, 5)


def test_tensors_that_come_back_can_be_changed() -> None:
    after = ScanReport.from_json(report().to_json())
    after.trigger.mask.mul_(0)
    assert after.trigger.size == 0


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "[" * 5000, '"text"', b"\xff\xfe"])
def test_what_is_no_report_is_refused(text: str | bytes) -> None:
    with pytest.raises(DataError, match="not a fedmend scan report"):
        ScanReport.from_json(text)


NEEDED = [
    field.name for field in fields(ScanReport) if field.name not in ("control_reasr", "variants", "warnings")
]


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_field_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=name):
        ScanReport.from_json(changed((name,), None, remove=True))


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(DataError, match="verdikt"):
        ScanReport.from_json(changed(("verdikt",), "clean"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("verdict",), "fine"),
        (("steps",), "many"),
        (("trigger",), None),
        (("trigger",), []),
        (("trigger", "mask"), "text"),
        (("trigger", "mask", "base64"), "AAAA"),
        (("trigger", "mask", "base64"), "not base64!"),
        (("trigger", "mask", "base64"), 5),
        (("trigger", "mask", "shape"), [1, 4, 6]),
        (("trigger", "mask", "shape"), "wide"),
        (("trigger", "mask", "dtype"), "object"),
        (("trigger", "mask", "dtype"), "int64"),
        (("trigger", "mask", "dtype"), ["float32"]),
        (("trigger", "pattern", "shape"), [3, 5, 4]),
        (("examples", "images", "shape"), [10**12, 3, 4, 5]),
        (("examples", "labels"), [0, 2]),
    ],
)
def test_a_damaged_part_is_refused(path: tuple[str, ...], value: object) -> None:
    with pytest.raises(DataError):
        ScanReport.from_json(changed(path, value))


def test_cut_short_anywhere_it_is_refused() -> None:
    text = report().to_json()
    for length in range(0, len(text) - 1, 37):
        with pytest.raises(DataError):
            ScanReport.from_json(text[:length])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PATHS), st.sampled_from(JUNK), st.booleans())
def test_no_damage_gets_past_the_one_error(path: tuple[Any, ...], value: object, remove: bool) -> None:
    try:
        found = ScanReport.from_json(changed(path, value, remove=remove and bool(path)))
    except DataError:
        return
    assert isinstance(found, ScanReport)  # what was changed may be anything, as a setting or a version
    assert all(isinstance(value, Tensor) for value in tensors(found).values())
