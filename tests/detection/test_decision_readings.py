"""What measures, cases and several findings are said to mean."""

import math
from dataclasses import replace
from typing import Any

import pytest

from fedmend.detection import Finding, Thresholds
from fedmend.detection.decision import case_warnings, combine, contrastive_measures, paper_measures
from found_evidence import FOUND


def told(**changes: Any) -> dict[str, tuple[str, str]]:
    """Each measure's reading and tone."""
    measures = contrastive_measures(replace(FOUND, **changes), Thresholds())
    return {measure.key: (measure.reading, measure.tone) for measure in measures}


FOR, AGAINST = "Evidence for a backdoor.", "Evidence against a backdoor."


def test_measures_of_a_backdoor() -> None:
    assert told(control_reasr=0.2) == {
        "reasr": (f"Above the limit. {FOR}", "suspicious"),
        "mse": (f"Above the limit. {FOR}", "suspicious"),
        "reference_agreement": (f"Below the limit: the reference isn’t fooled. {FOR}", "suspicious"),
        "control_reasr": (f"Below the limit: only the suspect can be fooled this way. {FOR}", "suspicious"),
    }
    assert "control_reasr" not in told()


def test_measures_at_their_limits_speak_against_one() -> None:
    assert told(reasr=0.8, mse=10.0, reference_agreement=0.5, control_reasr=0.5) == {
        "reasr": (f"Not above the limit. {AGAINST}", "innocent"),
        "mse": (f"Not above the limit. {AGAINST}", "innocent"),
        "reference_agreement": (
            f"At or above the limit: the reference is fooled as well. {AGAINST}",
            "innocent",
        ),
        "control_reasr": (
            "At or above the limit: the difference is symmetric, which happens without a backdoor.",
            "unsure",
        ),
    }


def test_a_reference_that_is_not_fooled_says_nothing_if_the_suspect_is_not_either() -> None:
    reading, tone = told(reasr=0.8)["reference_agreement"]
    assert tone == "unsure"
    assert (
        reading == "Below the limit, but the patch doesn’t fool the suspect either. Inconclusive by itself."
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_not_measured(value: float) -> None:
    assert told(mse=value)["mse"] == ("Not measured.", "unsure")


def test_measures_carry_their_values_and_limits() -> None:
    limits = Thresholds(mse=1.0, reasr=0.1, reference_agreement=0.2, suspicion=0.3)
    measures = contrastive_measures(replace(FOUND, control_reasr=0.25), limits)
    assert [(m.key, m.value, m.limit, m.suspicious_when, m.scale) for m in measures] == [
        ("reasr", 0.95, 0.1, "above", "fraction"),
        ("mse", 50.0, 1.0, "above", "log"),
        ("reference_agreement", 0.1, 0.2, "below", "fraction"),
        ("control_reasr", 0.25, 0.3, "below", "fraction"),
    ]
    assert paper_measures(FOUND, limits) == measures[:2]
    assert all(measure.name and measure.explanation for measure in measures)


# The case, and several findings


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
