"""What a decision on a round may use, and what the rules say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from fedmend.guard.decisions import Action, GuardVerdict
from fedmend.guard.history import History
from fedmend.guard.ledger import Ledger
from fedmend.guard.own_images import OwnImages
from fedmend.guard.policy import GuardPolicy
from fedmend.guard.scans import Scanned
from fedmend.guard.weights import State
from fedmend.progress import Progress


@dataclass(frozen=True, eq=False)
class Round:
    """What a decision on a round may use.

    Attributes:
        number: the round's. candidate: its weights, of the federation's architecture and finite.
        policy, images, history, ledger, progress: the guard's.
        template: the federation's model; left as it is.
        seed: of the round.
    """

    number: int
    candidate: State
    policy: GuardPolicy
    images: OwnImages
    history: History
    ledger: Ledger
    template: nn.Module
    seed: int
    progress: Progress


@dataclass(frozen=True, eq=False)
class Ruling:
    """What the rules say of a candidate.

    Attributes:
        action, verdict, reason: see :class:`fedmend.guard.Decision`.
        accepted: the weights that become the newest accepted model, the candidate's or repaired ones; None: none do.
        accepted_accuracy: of these. accuracy: of the candidate. Fractions in [0, 1], None where not measured.
        scans, rescans: of the candidate, and of the repaired model.
        repair: the repair's outcome and reason, if one was tried.
        withdrawn: numbers of accepted models that aren't trusted any more.
    """

    action: Action
    verdict: GuardVerdict
    reason: str
    accepted: State | None = None
    accepted_accuracy: float | None = None
    accuracy: float | None = None
    scans: Sequence[Scanned] = ()
    rescans: Sequence[Scanned] = ()
    repair: dict[str, Any] | None = None
    withdrawn: tuple[int, ...] = ()
