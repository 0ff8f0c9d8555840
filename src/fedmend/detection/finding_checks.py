"""What a finding of a user's own detector must be like before anything is made of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import UnionType
from typing import Any, get_args

from fedmend.detection.base import Covered, Finding, Measure, Scale, Side, Target, Tone, Verdict
from fedmend.errors import ConfigError
from fedmend.triggers import Addition, Patch


def check_finding(finding: object, detector: str, classes: int | None) -> None:
    """Check every value that reports, pages and repairs rely on.

    Args:
        finding: what the detector returned.
        detector: its name, for messages.
        classes: how many the case has; None if that isn't known.

    Raises:
        ConfigError: it is no :class:`Finding`, or one of its values can't be used; the message names the field.
    """
    if not isinstance(finding, Finding):
        raise ConfigError(f"the detector {detector} returned a {type(finding).__name__}; expected a Finding")
    problem = next(_problems(finding, classes), None)
    if problem is not None:
        raise ConfigError(f"the detector {detector} returned a Finding that can't be used: {problem}")


def _problems(finding: Finding, classes: int | None) -> Iterator[str]:
    yield from _text("detector", finding.detector)
    yield from _one_of("verdict", finding.verdict, Verdict)
    yield from _text("reason", finding.reason)
    yield from _number("suspicious", finding.suspicious)
    yield from _number("limit", finding.limit)
    if math.isnan(finding.suspicious) and finding.verdict == "clean":
        yield "a verdict of clean with NaN as suspicious; where nothing could be measured it is inconclusive"
    yield from _tuple_of(Measure, "measures", finding.measures)
    for index, measure in enumerate(finding.measures):
        yield from _measure(f"measures[{index}]", measure)
    yield from _tuple_of(Target, "targets", finding.targets)
    for index, target in enumerate(finding.targets):
        yield from _target(f"targets[{index}]", target, classes)
    yield from _tuple_of(str, "warnings", finding.warnings)
    yield from _tuple_of(str, "notes", finding.notes)
    yield from _tuple_of(float, "loss_curve", finding.loss_curve)
    yield from _number("seconds", finding.seconds)
    yield from _tuple_of(Covered, "coverage", finding.coverage)
    yield from _tuple_of(int, "poisoned", finding.poisoned)
    if finding.p_value is not None:
        yield from _number("p_value", finding.p_value)
        if not 0 <= finding.p_value <= 1:
            yield f"p_value must be in [0, 1] or None; got {finding.p_value}"
    if not isinstance(finding.settings, dict):
        yield f"settings must be a dict; got {finding.settings!r}"


def _measure(where: str, measure: Measure) -> Iterator[str]:
    for name in ("key", "name", "explanation", "reading"):
        yield from _text(f"{where}.{name}", getattr(measure, name))
    yield from _number(f"{where}.value", measure.value)
    if measure.limit is not None:
        yield from _number(f"{where}.limit", measure.limit)
    yield from _one_of(f"{where}.suspicious_when", measure.suspicious_when, Side)
    yield from _one_of(f"{where}.scale", measure.scale, Scale)
    yield from _one_of(f"{where}.tone", measure.tone, Tone)
    if measure.scale == "fraction" and not (0 <= measure.value <= 1 or math.isnan(measure.value)):
        yield f'{where}.value must be in [0, 1] on the scale "fraction"; got {measure.value}'


def _target(where: str, target: Target, classes: int | None) -> Iterator[str]:
    yield from _class(f"{where}.target", target.target, classes)
    yield from _number(f"{where}.success", target.success)
    if not (0 <= target.success <= 1 or math.isnan(target.success)):
        yield f"{where}.success must be a fraction in [0, 1], or NaN; got {target.success}"
    yield from _tuple_of(int, f"{where}.sources", target.sources)
    for index, source in enumerate(target.sources):
        yield from _class(f"{where}.sources[{index}]", source, classes)
    yield from _tuple_of(Patch | Addition, f"{where}.variants", target.variants)
    if target.trigger is not None and not isinstance(target.trigger, Patch | Addition):
        yield f"{where}.trigger must be a Patch, an Addition or None; got a {type(target.trigger).__name__}"


def _class(where: str, value: Any, classes: int | None) -> Iterator[str]:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < 0 or (classes is not None and value >= classes):
        among = "a class from 0" if classes is None else f"a class from 0 to {classes - 1}"
        yield f"{where} must be {among}, an int{_as_plain(value, 'int')}"


def _number(where: str, value: Any) -> Iterator[str]:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        yield f"{where} must be a number{_as_plain(value, 'float')}"


def _as_plain(value: Any, kind: str) -> str:
    if hasattr(value, "item"):  # a tensor, or a number of numpy's
        return f"; got a {type(value).__name__}: use {kind}(...)"
    return f"; got {value!r}"


def _text(where: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str) or not value.strip():
        yield f"{where} must be text that isn't empty; got {value!r}"


def _one_of(where: str, value: Any, names: Any) -> Iterator[str]:
    if value not in get_args(names):
        yield f"{where} must be one of {', '.join(get_args(names))}; got {value!r}"


def _tuple_of(kind: type | UnionType, where: str, values: Any) -> Iterator[str]:
    name = kind.__name__ if isinstance(kind, type) else " or ".join(each.__name__ for each in get_args(kind))
    if not isinstance(values, tuple):
        came = "a list" if isinstance(values, list) else repr(values)
        yield f"{where} must be a tuple, with a comma even around one: (first,); got {came}"
    for index, value in enumerate(values):
        if not isinstance(value, kind):
            yield f"{where}[{index}] must be a {name}{_as_plain(value, name)}"
