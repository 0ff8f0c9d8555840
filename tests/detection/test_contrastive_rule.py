import math
from dataclasses import replace
from typing import Any

import pytest

from fedmend.detection import PaperThresholds
from fedmend.detection.contrastive_rule import decide, measures, warnings
from fedmend.detection.patch_evidence import Evidence
from fedmend.errors import ConfigError

FOUND = Evidence(target=3, target_name="cat", mse=50.0, reasr=0.95, mask_fraction=0.05, converged=True)
LIMITS = PaperThresholds()


@pytest.mark.parametrize(
    ("mse", "reasr", "expected"),
    [
        (10.001, 0.801, "backdoored"),
        (10.0, 0.95, "clean"),  # above, not at
        (50.0, 0.80, "clean"),
        (9.0, 0.95, "clean"),
        (50.0, 0.5, "clean"),
        (0.0, 0.0, "clean"),
    ],
)
def test_the_rule_needs_both_above(mse: float, reasr: float, expected: str) -> None:
    assert decide(replace(FOUND, mse=mse, reasr=reasr), LIMITS)[0] == expected


@pytest.mark.parametrize("changes", [{"converged": False}, {"mask_fraction": 0.9}])
def test_nothing_else_decides(changes: dict[str, Any]) -> None:
    assert decide(replace(FOUND, **changes), LIMITS)[0] == "backdoored"
    assert decide(replace(FOUND, mse=9.0, **changes), LIMITS)[0] == "clean"


def test_thresholds_can_be_others() -> None:
    strict = PaperThresholds(mse=60.0, reasr=0.99)
    assert decide(FOUND, strict)[0] == "clean"
    assert decide(replace(FOUND, mse=61.0), strict)[0] == "clean"
    assert decide(replace(FOUND, mse=61.0, reasr=0.995), strict)[0] == "backdoored"


def test_reasons_name_the_figures() -> None:
    assert decide(FOUND, LIMITS)[1] == (
        'A patch of about 5.0% of the image sends 95% of the other classes\' images to "cat" in the suspect and '
        "changes its features by 50: above the paper's limits, 80% and 10."
    )
    assert decide(replace(FOUND, mse=9.123), LIMITS)[1] == (
        'The best patch found sends 95% of the other classes\' images to "cat" in the suspect and changes its features '
        "by 9.12; a backdoor exceeds both 80% and 10."
    )


def told(**changes: Any) -> dict[str, tuple[str, str]]:
    """Each measure's reading and tone."""
    found = measures(replace(FOUND, **changes), LIMITS)
    return {measure.key: (measure.reading, measure.tone) for measure in found}


def test_what_measures_say() -> None:
    above = ("Above the limit. Evidence for a backdoor.", "suspicious")
    below = ("Not above the limit. Evidence against a backdoor.", "innocent")
    assert told() == {"reasr": above, "mse": above}
    assert told(reasr=0.8, mse=10.0) == {"reasr": below, "mse": below}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_not_measured(value: float) -> None:
    assert told(mse=value)["mse"] == ("Not measured.", "unsure")


def test_measures_carry_their_values_and_limits() -> None:
    found = measures(FOUND, PaperThresholds(mse=1.0, reasr=0.1))
    assert [(m.key, m.value, m.limit, m.suspicious_when, m.scale) for m in found] == [
        ("reasr", 0.95, 0.1, "above", "fraction"),
        ("mse", 50.0, 1.0, "above", "log"),
    ]
    assert all(measure.name and measure.explanation for measure in found)


def test_a_search_cut_short_is_warned_of() -> None:
    assert warnings(FOUND) == ()
    assert warnings(replace(FOUND, converged=False)) == (
        "The search's loss was still falling when its steps ran out.",
    )


def test_a_mask_of_less_than_a_pixel_is_warned_of() -> None:
    assert warnings(replace(FOUND, mask_fraction=1 / 784)) == ()
    (said,) = warnings(replace(FOUND, mask_fraction=0.9 / 1000))
    assert said.startswith("The mask shrank to nothing.")
    assert len(warnings(replace(FOUND, mask_fraction=0.0, converged=False))) == 2


@pytest.mark.parametrize("name", ["mse", "reasr"])
def test_limits_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        PaperThresholds(**{name: -0.1})
