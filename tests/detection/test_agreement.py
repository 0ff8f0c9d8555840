"""Where several methods agree, and where they don't."""

from __future__ import annotations

from typing import Any

import pytest

from fedmend.detection import Finding, Target
from fedmend.detection.agreement import compare_methods
from fedmend.detection.base import Verdict

NAMES = ("cat", "dog", "owl")


def said(detector: str, verdict: Verdict, *targets: int) -> Finding:
    return Finding(
        detector, verdict, "A reason.", 1.0, 0.5, targets=tuple(Target(each, 1.0) for each in targets)
    )


def test_one_method_agrees_with_nobody() -> None:
    check = said("case-check", "inconclusive")  # no method
    assert (
        compare_methods([said("a", "clean")], NAMES)
        is compare_methods([said("a", "clean"), check], NAMES)
        is None
    )


@pytest.mark.parametrize(
    ("findings", "unanimous", "summary"),
    [
        ([said("a", "clean", 1), said("b", "clean")], True, "Both methods say clean."),
        (
            [said("a", "backdoored", 1, 2), said("b", "backdoored", 1), said("c", "backdoored")],
            True,
            'All 3 methods say backdoored. The target is "dog".',
        ),
        (
            [said("a", "backdoored", 1), said("b", "backdoored", 2)],
            False,
            'Both methods say backdoored. They name different targets: "dog" (a), "owl" (b).',
        ),
        (
            [said("a", "clean"), said("b", "backdoored", 7), said("c", "clean")],
            False,
            "The 3 methods disagree: 1 backdoored (b), 2 clean (a, c). The scan's verdict is the worst of them; each "
            "further method can also raise a false alarm.",
        ),
    ],
    ids=["clean", "one target", "two targets", "two verdicts"],
)
def test_what_they_say(findings: list[Finding], unanimous: bool, summary: str) -> None:
    found = compare_methods(findings, NAMES)
    assert found is not None
    assert (found.unanimous, found.summary) == (unanimous, summary)


def test_verdicts_and_targets_for_programs() -> None:
    findings: list[Any] = [
        said("a", "inconclusive", 0),
        said("b", "backdoored", 2, 0),
        said("c", "backdoored"),
    ]
    found = compare_methods(findings, NAMES)
    assert found is not None
    assert found.verdicts == {"backdoored": ("b", "c"), "inconclusive": ("a",)}
    assert found.targets == {2: ("b",)}
