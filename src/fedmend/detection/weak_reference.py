"""A reference that is much less accurate than the suspect, as one of an early round: when it is, and by how much."""

from __future__ import annotations

import math

from torch import Tensor

FACTOR = 2.0
"""A backdoor must lead by so many times as much: honest models differ more from such a reference."""
_GAP = 0.05
"""How much less accurate it must be, beside three standard errors."""
_SIGMAS = 3


def accuracies_if_weak(
    reference: Tensor, suspect: Tensor, labels: Tensor | None
) -> tuple[float, float] | None:
    """The accuracies of reference and suspect, if the reference's is so much lower; None if not, or without labels.

    Args:
        reference, suspect: predicted classes, int64 (N,).
        labels: int64 (N,), or None.
    """
    if labels is None:
        return None
    lower, higher = (float((each == labels.to(each.device)).double().mean()) for each in (reference, suspect))
    spread = math.sqrt((lower * (1 - lower) + higher * (1 - higher)) / len(labels))
    return (lower, higher) if higher - lower > _GAP + _SIGMAS * spread else None


def warnings(accuracies: tuple[float, float] | None) -> tuple[str, ...]:
    """What a report says of it: one warning, or none."""
    if accuracies is None:
        return ()
    lower, higher = accuracies
    return (
        f"the reference gets {lower:.0%} of the images right and the suspect {higher:.0%}: from so weak a reference "
        f"honest models differ more, so a backdoor must lead by {FACTOR:g} times as much; use a more accurate one",
    )
