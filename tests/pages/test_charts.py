from __future__ import annotations

import re
from typing import Any

import pytest

from fedmend.pages.charts import bullet, loss_chart


def placed(chart: Any) -> tuple[float, float, float]:
    """Where the dot is, and where the suspicious zone begins and how wide it is, in percent."""
    dot = re.search(r'<circle cx="([\d.]+)%"', chart)
    zone = re.search(r'<rect x="([\d.]+)%" y="20" width="([\d.]+)%" height="16" rx="3" class="zone"', chart)
    assert dot
    assert zone
    return float(dot[1]), float(zone[1]), float(zone[2])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"value": 0.9, "limit": 0.8}, (90, 80, 20)),
        ({"value": 0.9, "limit": 0.8, "suspicious_when": "below"}, (90, 0, 80)),
        ({"value": 1.7, "limit": 0.8}, (100, 80, 20)),
        ({"scale": "plain", "value": 3.0, "limit": 1.0}, (75, 25, 75)),  # from 0 to 4
        ({"scale": "plain", "value": -1.0, "limit": 0.0}, (0, 100, 0)),
        ({"scale": "plain", "value": -1.0, "limit": 0.8}, (0, 90, 10)),  # from -1 to 1
        ({"scale": "log", "value": 10.0, "limit": 1.0}, (75, 50, 50)),  # from 0.01 to 100
        ({"scale": "log", "value": 0.0, "limit": 1.0}, (0, 75, 25)),  # from 0.001 to 10
        ({"scale": "log", "value": 1e300, "limit": 1.0}, (100, 25, 75)),  # from 0.01 to 1,000,000
        ({"scale": "log", "value": float("inf"), "limit": 1.0}, (100, 25, 75)),
        ({"scale": "log", "value": 1.0, "limit": 1.0, "suspicious_when": "below"}, (66.667, 0, 66.667)),
    ],
)
def test_a_bullet_has_value_and_limit_in_their_places(
    made: Any, changes: dict[str, Any], expected: tuple[float, float, float]
) -> None:
    assert placed(bullet("key", made.measure(**changes))) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"limit": None},
        {"scale": "plain", "value": float("inf")},
        {"value": float("nan")},
        {"limit": float("nan")},
        {"limit": float("inf")},
        {"scale": "log", "limit": 0.0},
    ],
)
def test_what_cannot_be_drawn_is_no_chart(made: Any, changes: dict[str, Any]) -> None:
    assert bullet("key", made.measure(**changes)) is None


@pytest.mark.parametrize("value", [1e-300, 1e-12, 0.02, 1.0, 1e12, 1e300])
@pytest.mark.parametrize("limit", [1e-12, 0.5, 2.0, 1e12])
def test_a_log_scale_stays_readable(made: Any, value: float, limit: float) -> None:
    chart = bullet("key", made.measure(scale="log", value=value, limit=limit)) or ""
    dot, start, width = placed(chart)
    assert 0 <= dot <= 100
    assert 0 < start < start + width <= 100.001
    assert 3 <= chart.count('class="tick"') <= 8


def test_the_tone_is_the_records(made: Any) -> None:
    for tone, kind in (("suspicious", "bad"), ("innocent", "good"), ("unsure", "unsure")):
        assert f'class="dot {kind}"' in (bullet("key", made.measure(tone=tone)) or "")


def test_a_bullet_is_told_to_those_who_cannot_see_it(made: Any) -> None:
    chart = bullet("key", made.measure(suspicious_when="below")) or ""
    assert "93.1%, with the limit at 80%. The shaded, suspicious side is below the limit." in chart
    assert 'aria-labelledby="key-title key-desc"' in chart


def test_a_loss_of_one_value_is_no_chart() -> None:
    nan = float("nan")
    assert loss_chart("key", ()) is None
    assert loss_chart("key", (1.0, nan, float("inf"))) is None
    chart = loss_chart("key", (1.0, nan, 0.5)) or ""
    assert "From 1 at step 1 to 0.50 at step 3." in chart
    assert len(re.search(r'points="([^"]*)"', chart)[1].split()) == 2  # type: ignore[index]


def test_a_long_loss_is_thinned_and_keeps_its_last_value() -> None:
    chart = loss_chart("key", tuple(float(step) for step in range(10_000))) or ""
    points = re.search(r'points="([^"]*)"', chart)[1].split()  # type: ignore[index]
    assert len(points) <= 402
    assert "9,999 at step 10000" in chart
