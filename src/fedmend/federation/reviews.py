"""The place in a round where a guard sits: between the aggregated candidate and the next global model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from torch import nn


@dataclass(frozen=True, eq=False)
class Reviewed:
    """What a review made of a candidate.

    Attributes:
        model: the next global model; None: that of the round before stays. With that of an earlier round comes the
            aggregation rule's state after it, since momentum would bring rejected updates back; any other model but the
            candidate itself leaves the state as it was before the round.
        decision: in a word, for the run's records; None: they name none.
        stop: whether the run ends with this round.
    """

    model: nn.Module | None
    decision: str | None = None
    stop: bool = False


Review: TypeAlias = Callable[[nn.Module, int], nn.Module | Reviewed]
"""Called with each round's candidate and number; returns the next global model, or more about it."""


@runtime_checkable
class RemembersStops(Protocol):
    """A review that knows, in a resumed run, whether it had ended the run before."""

    def has_stopped(self, round_number: int) -> bool:
        """Whether it stopped the run with this round or an earlier one."""


def release_all(candidate: nn.Module, round_number: int) -> nn.Module:
    """The review of a federation without a guard: every candidate is released."""
    return candidate


def reviewed_by(review: Review, candidate: nn.Module, round_number: int) -> Reviewed:
    """What a review says of a round's candidate."""
    found = review(candidate, round_number)
    return found if isinstance(found, Reviewed) else Reviewed(found)


def stopped_before(review: Review, round_number: int) -> bool:
    """Whether a review that remembers its stops ended the run with this round or an earlier one."""
    return isinstance(review, RemembersStops) and review.has_stopped(round_number)
