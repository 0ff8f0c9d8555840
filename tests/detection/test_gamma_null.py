"""The gamma null distribution, against SciPy and by simulation."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from fedmend.detection.gamma_null import calibrated_tail, fitted, gamma_numbers, tail_of_largest
from fedmend.seeds import generator


def numbers(shape: float, size: tuple[int, ...], seed: int = 0) -> Tensor:
    return gamma_numbers(shape, size, generator(seed))


def test_the_fit_is_that_of_scipy() -> None:
    values = torch.tensor([1.0, 2.0, 2.5, 4.0, 7.0], dtype=torch.float64)
    shape, _, scale = stats.gamma.fit(values.numpy(), floc=0)
    found = fitted(values)
    assert float(found[0]) == pytest.approx(shape, rel=1e-6)
    assert float(found[1]) == pytest.approx(scale, rel=1e-6)


def test_the_p_value_is_one_minus_the_distribution_to_the_number_of_classes() -> None:
    values = torch.tensor([2.0, 9.0, 1.0, 2.5, 4.0], dtype=torch.float64)
    shape, _, scale = stats.gamma.fit([1.0, 2.0, 2.5, 4.0], floc=0)
    expected = 1 - stats.gamma.cdf(9.0, shape, scale=scale) ** 5
    assert float(tail_of_largest(values)) == pytest.approx(expected, rel=1e-6)


def test_it_does_not_depend_on_the_scale() -> None:
    values = numbers(5.0, (10,))
    assert float(tail_of_largest(100 * values)) == pytest.approx(float(tail_of_largest(values)), rel=1e-9)


@pytest.mark.parametrize("shape", [0.4, 1.0, 30.0])
def test_the_draws_are_gamma_numbers(shape: float) -> None:
    drawn = numbers(shape, (4000,))
    assert stats.kstest(drawn.numpy(), stats.gamma(shape).cdf).pvalue > 0.01
    assert torch.equal(drawn, numbers(shape, (4000,)))


@pytest.mark.parametrize("classes", [4, 10])
def test_calibrated_five_percent_are_five_percent(classes: int) -> None:
    """The uncalibrated p-value calls far more of them unusual."""
    found = numbers(20.0, (100, classes), seed=3)
    plain = float((tail_of_largest(found) < 0.05).double().mean())
    calibrated = sum(calibrated_tail(row, 7) < 0.05 for row in found) / len(found)
    assert plain > 0.1
    assert calibrated < 0.1


def test_an_outlier_stays_one() -> None:
    values = torch.cat([numbers(50.0, (9,)), torch.tensor([200.0], dtype=torch.float64)])
    assert calibrated_tail(values, 0) < 0.01
