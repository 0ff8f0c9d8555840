import math
from typing import Any

import pytest

from fedmend.detection import calibration

RESOURCES: dict[str, dict[str, Any]] = {
    "calibration.json": {"leads": [0.1, 0.3, 0.3, 0.7]},
    "measured.json": {"standard": {"patch, all-to-one": [38, 40]}},
}


@pytest.mark.parametrize(("lead", "expected"), [(0.8, 1 / 5), (0.7, 2 / 5), (0.3, 4 / 5), (-1.0, 1.0)])
def test_a_p_value_is_the_rank_among_honest_leads(
    monkeypatch: pytest.MonkeyPatch, lead: float, expected: float
) -> None:
    monkeypatch.setattr(calibration, "_resource", RESOURCES.__getitem__)
    assert calibration.p_value(lead) == expected
    assert calibration.p_value(math.nan) is None


def test_shares_by_effort_and_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_resource", RESOURCES.__getitem__)
    assert calibration.measured_share("standard", "patch, all-to-one") == (38, 40)
    assert calibration.measured_share("standard", "patch, one-to-one") is None
    assert calibration.measured_share("quick", "patch, all-to-one") is None


def test_without_measurements_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_resource", lambda name: {})
    assert calibration.p_value(2.0) is None
    assert calibration.measured_share("standard", "patch, all-to-one") is None
