import json
import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedmend.detection import Examples, Finding, Measure, ScanReport, Target
from fedmend.errors import DataError
from fedmend.seeds import generator
from fedmend.triggers import Patch

JUNK: tuple[Any, ...] = (None, -1, 3.5, "junk", "ü", [], [1], {}, {"mask": 1}, True, 10**30)


def random_patch(seed: int) -> Patch:
    random = generator(seed)
    return Patch(torch.rand(1, 4, 5, generator=random), torch.rand(3, 4, 5, generator=random))


def finding() -> Finding:
    return Finding(
        detector="differential",
        verdict="backdoored",
        reason='A patch sends everything to "coat" – 98 %.',
        suspicious=1 / 3,
        limit=float("nan"),
        measures=(
            Measure("mse", "MSE", 12.3456789012345, 10.0, "above", "log", "How far.", "Far.", "suspicious"),
            Measure("odd", "Odd", float("inf"), None, "below", "plain", "", "", "unsure"),
        ),
        targets=(Target(4, 1 / 3, (0, 2), random_patch(0), (random_patch(1),)), Target(0, 0.0)),
        warnings=("still falling",),
        notes=("in half precision",),
        settings={"lr": 0.1, "layer": "logits", "alpha": None, "deep": {"list": [1, 2.5, "x"]}, "on": True},
        loss_curve=(3.0, 0.1 + 0.2, -1e-300),
        stop_reason="nothing changed any more",
        seconds=0.7,
    )


def report(**changes: Any) -> ScanReport:
    """Changes are of its finding."""
    return ScanReport(
        verdict="backdoored",
        reason="A backdoor.",
        findings=(replace(finding(), **changes), Finding("other", "clean", "None.", 0.0, 1.0)),
        suspect_accuracy=0.9,
        reference_accuracy=None,
        num_images=30,
        class_names=("shirt", "Schuh ß", ""),
        seed=2**62,
        device="cpu",
        versions={"torch": "2.13.0"},
        seconds=1.1,
        examples=(
            Examples(
                detector="differential",
                target=4,
                images=torch.randint(0, 256, (2, 3, 4, 5), generator=generator(2), dtype=torch.uint8),
                labels=torch.tensor([0, 2]),
                suspect_clean=torch.tensor([0, 2]),
                suspect_stamped=torch.tensor([2**40, -1]),
                reference_stamped=None,
            ),
        ),
        warnings=("few images",),
    )


def with_trigger(trigger: Patch) -> ScanReport:
    return report(targets=(Target(4, 0.5, trigger=trigger),))


def trigger(found: ScanReport) -> Patch:
    patch = found.findings[0].targets[0].trigger
    assert isinstance(patch, Patch)
    return patch


def tensors(found: ScanReport) -> dict[Any, Tensor]:
    named: dict[Any, Tensor] = {}
    for place, shown in enumerate(found.examples):
        values = {field.name: getattr(shown, field.name) for field in fields(Examples)[2:-1]}
        named |= {(place, name): value for name, value in values.items() if value is not None}
    for number, each in enumerate(found.findings):
        for place, target in enumerate(each.targets):
            triggers = [*target.variants, *([] if target.trigger is None else [target.trigger])]
            for i, each_trigger in enumerate(triggers):
                named |= {(number, place, i, name): value for name, value in vars(each_trigger).items()}
    return named


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


def plain(value: Any) -> Any:
    """All parts but tensors, with NaN made comparable."""
    if isinstance(value, Tensor):
        return "a tensor"
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [type(value).__name__, *(plain(each) for each in value)]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return repr(value)


def test_nothing_is_lost_on_the_way_to_json_and_back() -> None:
    before = report()
    after = ScanReport.from_json(before.to_json())
    assert plain(after) == plain(before)
    assert tensors(after).keys() == tensors(before).keys()
    for name, value in tensors(before).items():
        other = tensors(after)[name]
        assert other.dtype == value.dtype
        assert torch.equal(other, value)
    assert after.to_json() == before.to_json()
    assert ScanReport.from_json(before.to_json().encode()).to_json() == before.to_json()


def test_json_is_plain_and_readable_elsewhere() -> None:
    content = json.loads(report().to_json())
    assert content["verdict"] == "backdoored"
    assert content["schema"] == "fedmend-scan/1"
    first = content["findings"][0]
    assert (first["measures"][0]["key"], first["measures"][0]["value"]) == ("mse", 12.3456789012345)
    assert first["targets"][0]["trigger"]["mask"]["shape"] == [1, 4, 5]
    assert content["examples"][0]["images"]["dtype"] == "uint8"


def test_a_setting_of_any_type_is_written() -> None:
    text = report(settings={"where": Path("a/b"), "lr": 0.1}).to_json()
    assert ScanReport.from_json(text).findings[0].settings == {"where": "a/b", "lr": 0.1}


def test_another_schema_is_refused() -> None:
    with pytest.raises(DataError, match="schema"):
        ScanReport.from_json(changed(("schema",), "fedmend-scan/2"))


@settings(deadline=None)
@given(st.lists(st.floats(), max_size=20), st.floats(), st.floats())
def test_every_float_comes_back_exactly(curve: list[float], suspicious: float, setting: float) -> None:
    before = report(loss_curve=tuple(curve), suspicious=suspicious, settings={"x": setting})
    after = ScanReport.from_json(before.to_json()).findings[0]
    pairs = [
        *zip(after.loss_curve, curve, strict=True),
        (after.suspicious, suspicious),
        (after.settings["x"], setting),
    ]
    for came, went in pairs:
        assert came == went or (math.isnan(came) and math.isnan(went))
        assert math.copysign(1, came) == math.copysign(1, went) or math.isnan(went)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6))
def test_every_trigger_comes_back_bit_for_bit(values: list[float]) -> None:
    grid = torch.tensor(values).view(1, 2, 3)
    after = trigger(ScanReport.from_json(with_trigger(Patch(grid, 1 - grid)).to_json()))
    assert torch.equal(after.mask.view(torch.int32), grid.view(torch.int32))
    assert torch.equal(after.pattern, 1 - grid)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_triggers_of_every_precision_survive(dtype: torch.dtype) -> None:
    grid = torch.rand(1, 2, 3, generator=generator(0)).to(dtype)
    after = trigger(ScanReport.from_json(with_trigger(Patch(grid, grid)).to_json()))
    assert after.mask.dtype == dtype
    assert torch.equal(after.mask, grid)


def test_tensors_may_be_views_part_of_a_graph_or_empty() -> None:
    mask = torch.rand(1, 5, 4, generator=generator(0)).requires_grad_().transpose(1, 2)
    pattern = torch.rand(1, 4, 5, generator=generator(1)).expand(3, -1, -1)
    none = torch.zeros(0, dtype=torch.int64)
    empty = Examples("differential", 4, torch.zeros(0, 3, 4, 5, dtype=torch.uint8), none, none, none, none)
    before = replace(with_trigger(Patch(mask, pattern)), examples=(empty,))
    after = ScanReport.from_json(before.to_json())
    assert torch.equal(trigger(after).mask, mask)
    assert torch.equal(trigger(after).pattern, pattern)
    assert after.examples[0].images.shape == (0, 3, 4, 5)


def test_tensors_that_come_back_can_be_changed() -> None:
    after = ScanReport.from_json(report().to_json())
    trigger(after).mask.mul_(0)
    assert trigger(after).size == 0


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "[" * 5000, '"text"', b"\xff\xfe"])
def test_what_is_no_report_is_refused(text: str | bytes) -> None:
    with pytest.raises(DataError, match="not a fedmend scan report"):
        ScanReport.from_json(text)


OPTIONAL = ("examples", "warnings", "date", "provenance", "schema", "scope", "agreement", "left_out")
NEEDED = [field.name for field in fields(ScanReport) if field.name not in OPTIONAL]


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_field_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=name):
        ScanReport.from_json(changed((name,), None, remove=True))


@pytest.mark.parametrize("path", [(), ("findings", 0), ("findings", 0, "measures", 1), ("examples", 0)])
def test_an_unknown_field_is_refused(path: tuple[Any, ...]) -> None:
    with pytest.raises(DataError, match="verdikt"):
        ScanReport.from_json(changed((*path, "verdikt"), "clean"))


TRIGGER = ("findings", 0, "targets", 0, "trigger")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("verdict",), "fine"),
        (("num_images",), "many"),
        (("findings", 0, "verdict"), "fine"),
        (("findings", 0, "measures", 0, "tone"), "loud"),
        (("findings",), 5),
        (TRIGGER, []),
        ((*TRIGGER, "mask"), "text"),
        ((*TRIGGER, "mask", "base64"), "AAAA"),
        ((*TRIGGER, "mask", "base64"), "not base64!"),
        ((*TRIGGER, "mask", "base64"), 5),
        ((*TRIGGER, "mask", "shape"), [1, 4, 6]),
        ((*TRIGGER, "mask", "shape"), "wide"),
        ((*TRIGGER, "mask", "dtype"), "object"),
        ((*TRIGGER, "mask", "dtype"), "int64"),
        ((*TRIGGER, "mask", "dtype"), ["float32"]),
        ((*TRIGGER, "pattern", "shape"), [3, 5, 4]),
        (("examples", 0, "images", "shape"), [10**12, 3, 4, 5]),
        (("examples", 0, "labels"), [0, 2]),
    ],
)
def test_a_damaged_part_is_refused(path: tuple[Any, ...], value: object) -> None:
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
