"""How far one class's number lies from the others', by the median absolute deviation (Neural Cleanse, Section IV-B)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CONSISTENCY = 1.4826
"""Makes the median absolute deviation of normal numbers their standard deviation."""

_FEWEST = 3


@dataclass(frozen=True, eq=False)
class Anomaly:
    """Numbers of classes compared with each other.

    Attributes:
        index: of each class, float64 (classes,): its distance from the median in consistent deviations, negative below
            the median. Zero where the deviation is degenerate.
        median: of the numbers; of an even count, the mean of the middle two.
        deviation: the median absolute deviation times 1.4826.
        degenerate: why the index says nothing, in words; None if it does.
    """

    index: Tensor
    median: float
    deviation: float
    degenerate: str | None = None


def anomaly(values: Tensor) -> Anomaly:
    """The anomaly index of each class.

    It is degenerate with fewer than three classes, where numbers aren't finite, and where at least half of the numbers
    are the same: their deviation is 0, and any other number would be infinitely far away.

    Args:
        values: one a class, (classes,).
    """
    return _anomaly(values, lower=False)


def lower_anomaly(values: Tensor) -> Anomaly:
    """The same by the deviation of the classes at or below the median alone (DeepInspect's double deviation).

    Classes far above the median, of which there may be many, then don't widen the spread by which one below is judged.

    Args:
        values: one a class, (classes,).
    """
    return _anomaly(values, lower=True)


def _anomaly(values: Tensor, lower: bool) -> Anomaly:
    numbers = values.detach().to("cpu", torch.float64)
    nothing = torch.zeros_like(numbers)
    if not bool(numbers.isfinite().all()):
        return Anomaly(nothing, float("nan"), float("nan"), "some classes' numbers are not finite")
    if len(numbers) < _FEWEST:
        return Anomaly(
            nothing,
            float("nan"),
            float("nan"),
            f"{len(numbers)} classes are too few to call one of them unusual",
        )
    median = float(numbers.quantile(0.5))
    compared = numbers[numbers <= median] if lower else numbers
    deviation = CONSISTENCY * float((compared - median).abs().quantile(0.5))
    if deviation == 0:
        return Anomaly(
            nothing, median, 0.0, "half or more of the classes have the same number, so their spread is 0"
        )
    return Anomaly((numbers - median) / deviation, median, deviation)
