import json
import math
from pathlib import Path

import pytest

import fedmend
from fedmend.detection import calibration
from fedmend.detection.calibration import measured_share, p_value, smallest_p_value

HERE = Path(str(fedmend.__file__)).parent / "detection"


@pytest.fixture
def honest(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "calibration.json": {"leads": [-0.2, 0.1, 0.1, 0.4]},
        "measured.json": {"quick": {"patch, all-to-one": [9, 10]}},
    }
    monkeypatch.setattr(calibration, "_read", files.__getitem__)


@pytest.mark.usefixtures("honest")
@pytest.mark.parametrize(
    ("lead", "expected"),
    [(-1.0, 1.0), (0.0, 4 / 5), (0.1, 4 / 5), (0.11, 2 / 5), (0.4, 2 / 5), (0.41, 1 / 5), (math.nan, 1.0)],
)
def test_the_p_value_counts_honest_leads_at_least_as_large_and_the_suspects_own(
    lead: float, expected: float
) -> None:
    assert p_value(lead) == pytest.approx(expected)


@pytest.mark.usefixtures("honest")
def test_no_p_value_is_smaller_than_the_number_of_federations_allows() -> None:
    assert smallest_p_value() == pytest.approx(1 / 5)


@pytest.mark.usefixtures("honest")
def test_measured_shares() -> None:
    assert measured_share("quick", "patch, all-to-one") == (9, 10)
    assert measured_share("quick", "addition, all-to-one") is None
    assert measured_share("standard", "patch, all-to-one") is None


def test_the_shipped_calibration_is_one_lead_a_federation() -> None:
    shipped = json.loads((HERE / "calibration.json").read_text(encoding="utf-8"))
    assert len(shipped["leads"]) == shipped["federations"] > 0
    assert all(math.isfinite(lead) for lead in shipped["leads"])
    assert 0 < smallest_p_value() == 1 / (shipped["federations"] + 1)


def test_the_shipped_shares_are_counts() -> None:
    shipped = json.loads((HERE / "measured.json").read_text(encoding="utf-8"))
    for families in shipped.values():
        assert all(0 <= found <= n for found, n in families.values())
