"""Clients' metrics, of which only numbers can be averaged."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any


def finite_numbers(metrics: Any) -> dict[str, float]:
    """The metrics that are finite numbers; anything else would end the average, and with it the job.

    Args:
        metrics: from a client, supposed to be a mapping from names to numbers.
    """
    if not isinstance(metrics, dict):
        return {}
    return {name: float(value) for name, value in metrics.items() if isinstance(name, str) and _finite(value)}


def _finite(value: Any) -> bool:
    try:
        return isinstance(value, Real) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False
