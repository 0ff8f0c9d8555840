import pytest
from scipy.stats import t

from fedmend.comparison import estimated

VALUES = [0.5, 0.52, 0.47, 0.55, 0.49]


def test_the_interval_is_students() -> None:
    found = estimated(VALUES)
    assert found is not None
    low, high = t.interval(0.95, 4, loc=found.mean, scale=0.03049590136 / 5**0.5)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert (found.mean, found.largest, found.n) == (pytest.approx(0.506), 0.55, 5)


@pytest.mark.parametrize("n", [2, 21, 22, 30, 200])
def test_any_number_of_seeds(n: int) -> None:
    values = [0.4, 0.6] * (n // 2) + [0.5] * (n % 2)
    found = estimated(values, (-9.0, 9.0))
    assert found is not None
    assert found.high is not None
    spread = (sum((value - 0.5) ** 2 for value in values) / (n - 1) / n) ** 0.5
    assert found.high - found.mean == pytest.approx(t.ppf(0.975, n - 1) * spread, rel=5e-3)


def test_it_stays_within_its_bounds() -> None:
    found = estimated([0.0, 1.0])
    assert found is not None
    assert (found.low, found.high) == (0.0, 1.0)


def test_one_run_has_no_interval() -> None:
    found = estimated([0.3])
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.3, None, None)
    assert estimated([]) is None
