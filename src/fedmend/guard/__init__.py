"""The guard of a running federation: it accepts, repairs or rolls back each round's model.

A name is imported from its module when it is first used: a page shows decisions without importing detectors.
"""

from typing import TYPE_CHECKING

from fedmend.lazy_names import on_demand

if TYPE_CHECKING:
    from fedmend.guard.decisions import Decision, Line, counted
    from fedmend.guard.guarding import guarded
    from fedmend.guard.history import History
    from fedmend.guard.ledger import Accepted, Ledger
    from fedmend.guard.policy import GuardPolicy
    from fedmend.guard.reviewing import Guard
    from fedmend.guard.signatures import check_signature
    from fedmend.guard.weights import digest

_HOMES = {
    "fedmend.guard.decisions": ("Decision", "Line", "counted"),
    "fedmend.guard.guarding": ("guarded",),
    "fedmend.guard.history": ("History",),
    "fedmend.guard.ledger": ("Accepted", "Ledger"),
    "fedmend.guard.policy": ("GuardPolicy",),
    "fedmend.guard.reviewing": ("Guard",),
    "fedmend.guard.signatures": ("check_signature",),
    "fedmend.guard.weights": ("digest",),
}

__all__ = [
    "Accepted",
    "Decision",
    "Guard",
    "GuardPolicy",
    "History",
    "Ledger",
    "Line",
    "check_signature",
    "counted",
    "digest",
    "guarded",
]

__getattr__ = on_demand(globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
