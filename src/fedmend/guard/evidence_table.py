"""What a decision's line holds of the outcome: accuracies, digests, scans, the repair."""

from __future__ import annotations

import math
from typing import Any

from fedmend.guard.decisions import Line, Stored
from fedmend.guard.ledger import Ledger
from fedmend.guard.rulings import Ruling
from fedmend.guard.weights import Fault, State, digest


def evidence(outcome: Ruling, ledger: Ledger, given: str | None, stored: Stored | None) -> dict[str, Any]:
    """The evidence as a table that JSON can hold.

    Args:
        outcome: what the rules said.
        ledger: before the decision.
        given: the candidate's digest; None if it has none, since it is no model of this federation.
        stored: the model that is accepted now.
    """
    last = ledger.last_without(outcome.withdrawn)
    released, accuracy = (None, None) if last is None else (last.stored.weights, last.accuracy)
    if outcome.action == "accept":
        released, accuracy = given, outcome.accuracy
    elif stored is not None:
        released, accuracy = stored.weights, outcome.accepted_accuracy
    references = {each.reference.accepted.said: each.reference for each in outcome.scans if each.reference}
    return {
        "accuracy": {
            "candidate": _finite(outcome.accuracy),
            "last_accepted": None if ledger.last is None else ledger.last.accuracy,
            "released": _finite(accuracy),
        },
        "digests": {
            "input": given,
            "references": {said: each.accepted.stored.weights for said, each in references.items()},
            "output": released,
        },
        "scans": [each.to_json() for each in outcome.scans],
        "rescans": [each.to_json() for each in outcome.rescans],
        "repair": outcome.repair,
    }


def is_about(line: Line, weights: State | Fault) -> bool:
    """Whether a line is the decision on these weights."""
    recorded = line.evidence["digests"]["input"]
    if isinstance(weights, Fault):
        return recorded is None and line.reason == weights.reason
    return bool(recorded == digest(weights))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
