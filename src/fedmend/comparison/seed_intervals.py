"""The mean of a few runs, and a 95 % confidence interval of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)
"""Student's t at 97.5 % for 1, 2, ... degrees of freedom."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean: of the runs. largest: of any run. n: their number, at least 1.
        low, high: the 95 % interval by Student's t, which takes the runs for normally distributed; None for one run.
    """

    mean: float
    largest: float
    n: int
    low: float | None = None
    high: float | None = None


def estimated(values: Sequence[float], bounds: tuple[float, float] = (0.0, 1.0)) -> Estimate | None:
    """The mean of runs that differ in their seeds; None without any.

    Args:
        values: one per run.
        bounds: the interval is cut to these.
    """
    if not values:
        return None
    n, mean = len(values), fmean(values)
    if n == 1:
        return Estimate(mean, mean, 1)
    quantile = _T[n - 2] if n - 2 < len(_T) else 1.96 + 2.5 / (n - 1)
    half = quantile * stdev(values) / math.sqrt(n)
    return Estimate(mean, max(values), n, max(bounds[0], mean - half), min(bounds[1], mean + half))
