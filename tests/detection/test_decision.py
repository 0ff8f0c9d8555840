"""What cases and several findings are said to mean."""

from dataclasses import replace
from typing import Any

import pytest

from fedmend.detection import Finding
from fedmend.detection.decision import case_warnings, combine


def test_what_a_case_is_warned_of() -> None:
    assert list(case_warnings(30, 10, 0.6, labels=True)) == []
    [poor] = case_warnings(30, 10, 0.59, labels=True)
    assert poor.startswith("The reference gets only 59% of the images right")
    [few] = case_warnings(29, 10, None, labels=True)
    assert few.startswith("29 images for 10 classes are fewer than the paper's three per class")
    [unlabelled] = case_warnings(30, 10, None, labels=False)
    assert unlabelled.startswith("No labels were given")


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["clean", "backdoored", "inconclusive"], "backdoored"),
        (["clean", "inconclusive", "clean"], "inconclusive"),
        (["clean", "clean"], "clean"),
        (["inconclusive"], "inconclusive"),
    ],
)
def test_the_worst_of_several_findings_decides(verdicts: list[Any], expected: str) -> None:
    findings = [Finding(f"method {n}", each, f"Reason {n}.", 0.0, 0.0) for n, each in enumerate(verdicts)]
    combined, why = combine(findings)
    agreeing = [n for n, each in enumerate(verdicts) if each == expected]
    assert combined == expected
    assert why == (
        "Reason 0." if len(verdicts) == 1 else " ".join(f"method {n}: Reason {n}." for n in agreeing)
    )


def test_of_many_reasons_that_of_the_first_with_a_p_value_is_given() -> None:
    findings = [Finding(name, "backdoored", f"Reason {name}.", 1.0, 1.0) for name in "abc"]
    clean = Finding("d", "clean", "Reason d.", 0.1, 1.0, p_value=0.5)
    assert combine([clean, *findings])[1] == "3 of 4 methods say so. a: Reason a."
    findings[1] = replace(findings[1], p_value=0.02)
    assert combine([clean, *findings])[1] == "3 of 4 methods say so. b: Reason b."
