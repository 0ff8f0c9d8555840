"""The result of the contrastive paper's search, and whether its loss has settled."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from fedmend.triggers import Patch

STAGE = "trigger inversion"
"""The stage under which searches report progress."""

_FALLING = 0.1


@dataclass(frozen=True, eq=False)
class Recovered:
    """A recovered trigger and how the search went.

    Attributes:
        trigger: the recovered mask and pattern, on the images' device.
        loss_curve: the loss of each step.
        stop_reason: why the search ended.
        converged: False if the loss was still falling when the steps ran out.
    """

    trigger: Patch
    loss_curve: tuple[float, ...]
    stop_reason: str
    converged: bool


def has_settled(losses: list[float]) -> bool:
    """Whether the mean loss of the last quarter of the steps is at most 0.1 below that of the quarter before."""
    return fall(losses) <= _FALLING


def fall(losses: list[float]) -> float:
    """The drop of the mean loss from the third quarter of the steps to the last; infinite for under four steps."""
    window = len(losses) // 4
    if window == 0:
        return float("inf")
    return fmean(losses[-2 * window : -window]) - fmean(losses[-window:])
